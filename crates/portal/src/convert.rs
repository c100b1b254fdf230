//! Converts between wire messages and the agent's types. The conversion is the validation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DenyCode, DisconnectReason, Event, EventKind, Grant, Login, Route, Verdict};
use ocserv_agent_proto::vpn::v1 as wire;
use prost_types::Timestamp;

use crate::error::CheckError;
use crate::reply::{PolicyReply, SessionValidity};
use crate::text::one_line;

const EMPTY_REPLY: &str = "an empty message, which is not a decision: a deny needs a deny_reason or metadata";

pub(crate) fn policy_request(login: &Login, now: SystemTime) -> wire::CheckPolicyRequest {
    wire::CheckPolicyRequest {
        username: login.username.to_string(),
        groupname: login.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_ip: login.client_ip.to_string(),
        vpn_ip: login.vpn_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        session_id: login.id.to_string(),
        device: login.device.clone(),
        request_time: Some(Timestamp::from(now)),
    }
}

pub(crate) fn policy_reply(wire: &wire::CheckPolicyResponse) -> Result<PolicyReply, CheckError> {
    // A deny without any other field has the same empty encoding as the reply of a stub, of a
    // handler that did not fill its response, or of a proxy that dropped the body. So it is not a
    // decision.
    if *wire == wire::CheckPolicyResponse::default() {
        return Err(CheckError::Nonsense(EMPTY_REPLY));
    }
    let verdict = match (wire.allowed, wire.should_disconnect) {
        (true, true) => {
            return Err(CheckError::Nonsense(
                "a contradiction: allowed and should_disconnect at once",
            ));
        }
        (true, false) if !wire.deny_reason.is_empty() => {
            return Err(CheckError::Nonsense(
                "a contradiction: allowed, with a deny_reason",
            ));
        }
        (true, false) => Verdict::Allow(grant(wire)?),
        (false, _) => Verdict::deny(DenyCode::Policy, one_line(&wire.deny_reason)),
    };
    Ok(PolicyReply {
        verdict,
        ttl: ttl(&wire.metadata),
        policy_version: policy_version(&wire.metadata),
    })
}

/// Parses routes and DNS servers; skips invalid entries. Rejects a reply none of whose routes is
/// valid: without routes the client gets the server's own, which may be more than the portal meant.
fn grant(wire: &wire::CheckPolicyResponse) -> Result<Grant, CheckError> {
    let routes: Vec<_> = wire
        .routes
        .iter()
        .filter(|route| check_entry("route", route, |text| Route::parse(text).is_ok()))
        .cloned()
        .collect();
    if routes.is_empty() && !wire.routes.is_empty() {
        return Err(CheckError::Nonsense(
            "routes of which none is an address or a network",
        ));
    }
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let dns_servers = wire
        .dns_servers
        .iter()
        .filter(|server| check_entry("dns server", server, is_address));
    Ok(Grant {
        routes: routes.into(),
        dns_servers: dns_servers.filter_map(|server| server.parse().ok()).collect(),
    })
}

fn check_entry(kind: &str, entry: &str, is_valid: impl Fn(&str) -> bool) -> bool {
    let valid = is_valid(entry);
    if !valid {
        tracing::warn!("portal sent an invalid {kind}, skipped: {}", one_line(entry));
    }
    valid
}

/// Parses the TTL; `None` without one. An invalid value forbids caching: the portal meant a limit,
/// and the default may be longer.
fn ttl(metadata: &HashMap<String, String>) -> Option<Duration> {
    let text = metadata.get("cache_ttl_seconds")?;
    let seconds = text.parse().unwrap_or_else(|_| {
        let text = one_line(text);
        tracing::warn!("portal sent an invalid cache_ttl_seconds, decision not cached: {text:?}");
        0
    });
    Some(Duration::from_secs(seconds))
}

fn policy_version(metadata: &HashMap<String, String>) -> Option<String> {
    metadata
        .get("policy_version")
        .map(|version| one_line(version))
        .filter(|version| !version.is_empty())
}

pub(crate) fn session_validity(wire: &wire::ValidateSessionResponse) -> Result<SessionValidity, CheckError> {
    if wire.valid && wire.force_disconnect {
        return Err(CheckError::Nonsense(
            "a contradiction: valid and force_disconnect at once",
        ));
    }
    Ok(SessionValidity {
        valid: wire.valid,
        reason: one_line(&wire.invalid_reason),
        force_disconnect: wire.force_disconnect,
    })
}

/// The message that reports an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EventReport {
    Connect(wire::ReportConnectRequest),
    Disconnect(wire::ReportDisconnectRequest),
}

pub(crate) fn event_report(event: &Event, agent_id: &str) -> EventReport {
    let mut metadata = HashMap::from([
        ("event_id".to_owned(), event.event_id.to_string()),
        ("session_uid".to_owned(), event.uid.to_string()),
        ("agent_id".to_owned(), agent_id.to_owned()),
    ]);
    if let Some(source) = event.decision_source {
        metadata.insert("decision_source".to_owned(), source.to_string());
    }
    match &event.kind {
        EventKind::Connected(connected) => EventReport::Connect(wire::ReportConnectRequest {
            username: event.username.to_string(),
            session_id: event.id.to_string(),
            client_ip: connected.client_ip.to_string(),
            vpn_ip: connected.vpn_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            device: connected.device.clone(),
            connected_at: Some(Timestamp::from(connected.at)),
            groupname: connected
                .group
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            metadata,
        }),
        EventKind::Disconnected(end) => {
            let duration = end.duration.map(|duration| duration.as_secs());
            // No `stats` without byte counts: zeros would claim that there was no traffic.
            let stats = end.usage.map(|usage| wire::SessionStats {
                duration_seconds: duration.unwrap_or(0).try_into().unwrap_or(i64::MAX),
                bytes_received: usage.received,
                bytes_sent: usage.sent,
                packets_received: 0,
                packets_sent: 0,
            });
            if let (None, Some(seconds)) = (&stats, duration) {
                metadata.insert("duration_seconds".to_owned(), seconds.to_string());
            }
            EventReport::Disconnect(wire::ReportDisconnectRequest {
                username: event.username.to_string(),
                session_id: event.id.to_string(),
                disconnected_at: Some(Timestamp::from(end.at)),
                reason: disconnect_reason(end.reason).into(),
                stats,
                metadata,
            })
        }
    }
}

fn disconnect_reason(reason: DisconnectReason) -> wire::DisconnectReason {
    match reason {
        DisconnectReason::Unspecified => wire::DisconnectReason::Unspecified,
        DisconnectReason::UserInitiated => wire::DisconnectReason::UserInitiated,
        DisconnectReason::AdminForced => wire::DisconnectReason::AdminForced,
        DisconnectReason::IdleTimeout => wire::DisconnectReason::IdleTimeout,
        DisconnectReason::SessionLimit => wire::DisconnectReason::SessionLimit,
        DisconnectReason::CertificateRevoked => wire::DisconnectReason::CertificateRevoked,
        DisconnectReason::PolicyViolation => wire::DisconnectReason::PolicyViolation,
        DisconnectReason::ServerShutdown => wire::DisconnectReason::ServerShutdown,
        DisconnectReason::ConnectionError => wire::DisconnectReason::ConnectionError,
    }
}

#[cfg(test)]
mod tests;
