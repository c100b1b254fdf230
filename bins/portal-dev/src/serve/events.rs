//! `EventService`: records connects, disconnects and session updates.

use std::collections::HashMap;
use std::sync::Arc;

use ocserv_agent_model::{DisconnectReason, Verdict, VhostName};
use ocserv_agent_proto::vpn::v1::event_service_server::EventService;
use ocserv_agent_proto::vpn::v1::{
    DisconnectReason as WireReason, ReportConnectRequest, ReportConnectResponse, ReportDisconnectRequest,
    ReportDisconnectResponse, ReportSessionUpdateRequest, ReportSessionUpdateResponse, SessionStats,
    SessionStatus,
};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::fields::{self, BadField};
use super::journal::{Journal, Written};
use super::journal_entry::{Event, JournalEntry, Stats};
use super::policy_watch::CurrentPolicy;
use super::session_registry::{SessionInfo, SessionRegistry};

pub(super) struct Events {
    policy: CurrentPolicy,
    sessions: Arc<SessionRegistry>,
    journal: Journal,
}

impl Events {
    pub(super) fn new(policy: CurrentPolicy, sessions: Arc<SessionRegistry>, journal: Journal) -> Self {
        Self {
            policy,
            sessions,
            journal,
        }
    }

    /// Writes an event. It must not be acknowledged before: then the agent deletes it.
    async fn write(&self, entry: JournalEntry) -> Result<Written, Status> {
        let failed = || Status::unavailable("could not write the event");
        self.journal.write(entry).await.ok_or_else(failed)
    }

    fn connected(&self, peer: &str, request: ReportConnectRequest) -> Result<JournalEntry, BadField> {
        let username = fields::username(&request.username)?;
        let id = fields::session_id(&request.session_id)?;
        let client_ip = fields::optional_client_ip(&request.client_ip)?;
        let vpn_ip = fields::vpn_ip(&request.vpn_ip)?;
        let group = fields::groupname(&request.groupname)?;
        let connected_at = fields::time("connected_at", request.connected_at)?;
        let vhost = request.metadata.get("vhost");
        let vhost = vhost.map(|text| fields::vhost(text)).transpose()?;
        let key = (peer.to_owned(), username, id);
        if let Some(client_ip) = client_ip {
            let vhost = vhost.or_else(|| self.sessions.get(&key).and_then(|session| session.vhost));
            let session = SessionInfo {
                group,
                vhost,
                client_ip,
            };
            self.sessions.insert(key, session);
        }
        Ok(JournalEntry::Connect {
            peer: peer.to_owned(),
            event: event(request.username, request.session_id, request.metadata),
            connected_at,
            client_ip,
            vpn_ip,
            device: request.device,
            groupname: Some(request.groupname).filter(|group| !group.is_empty()),
        })
    }

    fn disconnected(&self, peer: &str, request: ReportDisconnectRequest) -> Result<JournalEntry, BadField> {
        let username = fields::username(&request.username)?;
        let id = fields::session_id(&request.session_id)?;
        let disconnected_at = fields::time("disconnected_at", request.disconnected_at)?;
        let stats = request.stats.map(|stats| checked("stats", stats)).transpose()?;
        self.sessions.remove(&(peer.to_owned(), username, id));
        Ok(JournalEntry::Disconnect {
            peer: peer.to_owned(),
            event: event(request.username, request.session_id, request.metadata),
            disconnected_at,
            reason: reason(request.reason),
            stats,
        })
    }

    /// Returns the entry, and the reason to disconnect the session.
    fn updated(
        &self,
        peer: &str,
        request: ReportSessionUpdateRequest,
    ) -> Result<(JournalEntry, Option<String>), BadField> {
        let username = fields::username(&request.username)?;
        let id = fields::session_id(&request.session_id)?;
        let update_time = fields::time("update_time", request.update_time)?;
        let stats = request
            .current_stats
            .map(|stats| checked("current_stats", stats))
            .transpose()?;
        let session = self.sessions.get(&(peer.to_owned(), username.clone(), id));
        let evaluation =
            session.and_then(|session| session.evaluate(&self.policy.borrow(), &username, session.client_ip));
        let disconnect_reason = match evaluation.map(|evaluation| evaluation.verdict) {
            Some(Verdict::Deny(denial)) => Some(denial.reason),
            Some(Verdict::Allow(_)) | None => None,
        };
        let entry = JournalEntry::SessionUpdate {
            peer: peer.to_owned(),
            event: event(request.username, request.session_id, request.metadata),
            update_time,
            status: status(request.status),
            stats,
            should_disconnect: disconnect_reason.is_some(),
            disconnect_reason: disconnect_reason.clone(),
        };
        Ok((entry, disconnect_reason))
    }
}

#[tonic::async_trait]
impl EventService for Events {
    async fn report_connect(
        &self,
        request: Request<ReportConnectRequest>,
    ) -> Result<Response<ReportConnectResponse>, Status> {
        let peer = caller(&request);
        let entry = match self.connected(&peer, request.into_inner()) {
            Ok(entry) => entry,
            Err(error) => return Err(error.reject(&self.journal, &peer, "ReportConnect").await),
        };
        let message = message(self.write(entry).await?);
        Ok(Response::new(ReportConnectResponse {
            success: true,
            message,
            updated_routes: Vec::new(),
        }))
    }

    async fn report_disconnect(
        &self,
        request: Request<ReportDisconnectRequest>,
    ) -> Result<Response<ReportDisconnectResponse>, Status> {
        let peer = caller(&request);
        let entry = match self.disconnected(&peer, request.into_inner()) {
            Ok(entry) => entry,
            Err(error) => return Err(error.reject(&self.journal, &peer, "ReportDisconnect").await),
        };
        let message = message(self.write(entry).await?);
        Ok(Response::new(ReportDisconnectResponse {
            success: true,
            message,
        }))
    }

    async fn report_session_update(
        &self,
        request: Request<ReportSessionUpdateRequest>,
    ) -> Result<Response<ReportSessionUpdateResponse>, Status> {
        let peer = caller(&request);
        let (entry, disconnect_reason) = match self.updated(&peer, request.into_inner()) {
            Ok(updated) => updated,
            Err(error) => return Err(error.reject(&self.journal, &peer, "ReportSessionUpdate").await),
        };
        self.write(entry).await?;
        Ok(Response::new(ReportSessionUpdateResponse {
            success: true,
            should_disconnect: disconnect_reason.is_some(),
            disconnect_reason: disconnect_reason.unwrap_or_default(),
        }))
    }
}

fn message(written: Written) -> String {
    if written.duplicate {
        "seen before".to_owned()
    } else {
        String::new()
    }
}

fn event(username: String, session_id: String, mut metadata: HashMap<String, String>) -> Event {
    Event {
        username,
        session_id,
        event_id: metadata.remove("event_id"),
        session_uid: metadata.remove("session_uid"),
        agent_id: metadata.remove("agent_id"),
        decision_source: metadata.remove("decision_source"),
        vhost: metadata.remove("vhost").map(vhost_name),
        usage: metadata.remove("usage"),
        reconciled: metadata.remove("reconciled").is_some_and(|value| value == "true"),
        time_accuracy_seconds: metadata
            .remove("time_accuracy_seconds")
            .and_then(|seconds| seconds.parse().ok()),
        duplicate: false,
    }
}

/// Names the default virtual host, for which the agent sends an empty text.
fn vhost_name(text: String) -> String {
    if text.is_empty() {
        VhostName::default().to_string()
    } else {
        text
    }
}

fn checked(field: &str, stats: SessionStats) -> Result<Stats, BadField> {
    let duration_seconds = u64::try_from(stats.duration_seconds)
        .map_err(|_| BadField::new(&format!("{field}.duration_seconds"), "is negative"))?;
    Ok(Stats {
        duration_seconds,
        bytes_received: stats.bytes_received,
        bytes_sent: stats.bytes_sent,
        packets_received: stats.packets_received,
        packets_sent: stats.packets_sent,
    })
}

/// Returns the reason's name, or the number of an unknown one.
fn reason(number: i32) -> String {
    let reason = match WireReason::try_from(number) {
        Ok(WireReason::Unspecified) => DisconnectReason::Unspecified,
        Ok(WireReason::UserInitiated) => DisconnectReason::UserInitiated,
        Ok(WireReason::AdminForced) => DisconnectReason::AdminForced,
        Ok(WireReason::IdleTimeout) => DisconnectReason::IdleTimeout,
        Ok(WireReason::SessionLimit) => DisconnectReason::SessionLimit,
        Ok(WireReason::CertificateRevoked) => DisconnectReason::CertificateRevoked,
        Ok(WireReason::PolicyViolation) => DisconnectReason::PolicyViolation,
        Ok(WireReason::ServerShutdown) => DisconnectReason::ServerShutdown,
        Ok(WireReason::ConnectionError) => DisconnectReason::ConnectionError,
        Err(_) => return number.to_string(),
    };
    reason.as_str().to_owned()
}

fn status(number: i32) -> String {
    match SessionStatus::try_from(number) {
        Ok(SessionStatus::Unspecified) => "unspecified".to_owned(),
        Ok(SessionStatus::Active) => "active".to_owned(),
        Ok(SessionStatus::Idle) => "idle".to_owned(),
        Ok(SessionStatus::Degraded) => "degraded".to_owned(),
        Err(_) => number.to_string(),
    }
}
