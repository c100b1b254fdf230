//! `EventService`: who came, who went, what moved.

use std::collections::HashMap;
use std::sync::Arc;

use ocserv_agent_model::{DisconnectReason, Verdict};
use ocserv_agent_proto::vpn::v1::event_service_server::EventService;
use ocserv_agent_proto::vpn::v1::{
    DisconnectReason as WireReason, ReportConnectRequest, ReportConnectResponse, ReportDisconnectRequest,
    ReportDisconnectResponse, ReportSessionUpdateRequest, ReportSessionUpdateResponse, SessionStats,
    SessionStatus,
};
use tonic::{Request, Response, Status};

use super::connection::Caller;
use super::journal::{Journal, Stored};
use super::known::{Known, KnownSessions};
use super::policy_watch::CurrentPolicy;
use super::record::{Event, Stats, What};
use super::request::{self, BadField};

pub(super) struct Events {
    policy: CurrentPolicy,
    known: Arc<KnownSessions>,
    journal: Journal,
}

impl Events {
    pub(super) fn new(policy: CurrentPolicy, known: Arc<KnownSessions>, journal: Journal) -> Self {
        Self {
            policy,
            known,
            journal,
        }
    }

    /// Writes an event down. Only what is written may be acknowledged: the agent forgets it then.
    async fn store(&self, what: What) -> Result<Stored, Status> {
        let lost = || Status::unavailable("the event could not be written down; send it again");
        self.journal.store(what).await.ok_or_else(lost)
    }

    fn connected(&self, peer: &str, told: ReportConnectRequest) -> Result<What, BadField> {
        let username = request::username(&told.username)?;
        let id = request::session_id(&told.session_id)?;
        let client_ip = request::client_ip(&told.client_ip)?;
        let vpn_ip = request::vpn_ip(&told.vpn_ip)?;
        let group = request::groupname(&told.groupname)?;
        let connected_at = request::time("connected_at", told.connected_at)?;
        self.known
            .insert((peer.to_owned(), username, id), Known { group, client_ip });
        Ok(What::Connect {
            peer: peer.to_owned(),
            event: event(told.username, told.session_id, told.metadata),
            connected_at,
            client_ip,
            vpn_ip,
            device: told.device,
            groupname: Some(told.groupname).filter(|group| !group.is_empty()),
        })
    }

    fn disconnected(&self, peer: &str, told: ReportDisconnectRequest) -> Result<What, BadField> {
        let username = request::username(&told.username)?;
        let id = request::session_id(&told.session_id)?;
        let disconnected_at = request::time("disconnected_at", told.disconnected_at)?;
        let stats = told.stats.map(|stats| checked("stats", stats)).transpose()?;
        self.known.remove(&(peer.to_owned(), username, id));
        Ok(What::Disconnect {
            peer: peer.to_owned(),
            event: event(told.username, told.session_id, told.metadata),
            disconnected_at,
            reason: reason(told.reason),
            stats,
        })
    }

    /// The line, and why the session should end.
    fn updated(
        &self,
        peer: &str,
        told: ReportSessionUpdateRequest,
    ) -> Result<(What, Option<String>), BadField> {
        let username = request::username(&told.username)?;
        let id = request::session_id(&told.session_id)?;
        let update_time = request::time("update_time", told.update_time)?;
        let stats = told
            .current_stats
            .map(|stats| checked("current_stats", stats))
            .transpose()?;
        let known = self.known.get(&(peer.to_owned(), username.clone(), id));
        let verdict = known.map(|Known { group, client_ip }| {
            self.policy
                .borrow()
                .evaluate(&username, group.as_ref(), client_ip)
                .verdict
        });
        let disconnect_reason = match verdict {
            Some(Verdict::Deny(refusal)) => Some(refusal.reason),
            Some(Verdict::Allow(_)) | None => None,
        };
        let line = What::SessionUpdate {
            peer: peer.to_owned(),
            username: told.username,
            session_id: told.session_id,
            update_time,
            status: status(told.status),
            stats,
            should_disconnect: disconnect_reason.is_some(),
            disconnect_reason: disconnect_reason.clone(),
        };
        Ok((line, disconnect_reason))
    }
}

#[tonic::async_trait]
impl EventService for Events {
    async fn report_connect(
        &self,
        request: Request<ReportConnectRequest>,
    ) -> Result<Response<ReportConnectResponse>, Status> {
        let peer = Caller::of(request.extensions());
        let line = match self.connected(&peer, request.into_inner()) {
            Ok(line) => line,
            Err(bad) => return Err(bad.refuse(&self.journal, &peer, "ReportConnect").await),
        };
        let message = message(self.store(line).await?);
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
        let peer = Caller::of(request.extensions());
        let line = match self.disconnected(&peer, request.into_inner()) {
            Ok(line) => line,
            Err(bad) => return Err(bad.refuse(&self.journal, &peer, "ReportDisconnect").await),
        };
        let message = message(self.store(line).await?);
        Ok(Response::new(ReportDisconnectResponse {
            success: true,
            message,
        }))
    }

    async fn report_session_update(
        &self,
        request: Request<ReportSessionUpdateRequest>,
    ) -> Result<Response<ReportSessionUpdateResponse>, Status> {
        let peer = Caller::of(request.extensions());
        let (line, disconnect_reason) = match self.updated(&peer, request.into_inner()) {
            Ok(updated) => updated,
            Err(bad) => return Err(bad.refuse(&self.journal, &peer, "ReportSessionUpdate").await),
        };
        self.store(line).await?;
        Ok(Response::new(ReportSessionUpdateResponse {
            success: true,
            should_disconnect: disconnect_reason.is_some(),
            disconnect_reason: disconnect_reason.unwrap_or_default(),
        }))
    }
}

fn message(stored: Stored) -> String {
    if stored.duplicate {
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
        duplicate: false,
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

/// The reason's name; a number that only newer agents know stays a number.
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
