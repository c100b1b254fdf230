//! Converts between wire messages and the agent's types. The conversion is the validation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    DenyCode, DisconnectReason, Event, EventKind, Grant, Login, Reconciled, Route, SessionStatus, Usage,
    Verdict, VhostName,
};
use ocserv_agent_proto::vpn::v1 as wire;
use prost_types::Timestamp;

use crate::error::CheckError;
use crate::reply::{PolicyReply, SessionValidity};
use crate::settings::Limits;
use crate::text::one_line;

const EMPTY_REPLY: &str =
    "an empty message, which is not a decision: a deny needs a deny_reason, should_disconnect or metadata";

pub(crate) fn policy_request(login: &Login, now: SystemTime) -> wire::CheckPolicyRequest {
    wire::CheckPolicyRequest {
        username: login.username.to_string(),
        groupname: login.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_ip: login.client_ip.to_string(),
        vpn_ip: login.vpn_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        session_id: login.id.to_string(),
        device: login.device.clone(),
        request_time: Some(Timestamp::from(now)),
        vhost: login.vhost.as_ref().map(vhost_text).unwrap_or_default(),
    }
}

/// The virtual host on the wire: empty for the default one.
fn vhost_text(vhost: &VhostName) -> String {
    if vhost.is_default() {
        String::new()
    } else {
        vhost.to_string()
    }
}

/// Converts an answer. A deny is a deny whatever else is in it; an allow must be clear.
pub(crate) fn policy_reply(
    wire: &wire::CheckPolicyResponse,
    limits: &Limits,
) -> Result<PolicyReply, CheckError> {
    // A deny without any other field has the same empty encoding as the reply of a stub, of a
    // handler that did not fill its response, or of a proxy that dropped the body. So it is not a
    // decision.
    if *wire == wire::CheckPolicyResponse::default() {
        return Err(CheckError::Invalid(EMPTY_REPLY.to_owned()));
    }
    let mut ignored = Ignored::default();
    let verdict = match (wire.allowed, wire.should_disconnect) {
        (true, true) => return Err(CheckError::Contradiction("allowed and should_disconnect at once")),
        (true, false) if !wire.deny_reason.is_empty() => {
            return Err(CheckError::Contradiction("allowed, with a deny_reason"));
        }
        (true, false) => {
            check_limits(wire, limits)?;
            Verdict::Allow(grant(wire, &mut ignored)?)
        }
        (false, _) => Verdict::deny(DenyCode::Policy, one_line(&wire.deny_reason)),
    };
    Ok(PolicyReply {
        verdict,
        ttl: ttl(&wire.metadata, &mut ignored),
        policy_version: policy_version(&wire.metadata),
        disconnect: wire.should_disconnect,
        ignored: ignored.0,
    })
}

/// Checks the bounds of an allow; the error names the field.
fn check_limits(wire: &wire::CheckPolicyResponse, limits: &Limits) -> Result<(), CheckError> {
    for (field, count, max) in [
        ("routes", wire.routes.len(), limits.max_routes),
        ("dns_servers", wire.dns_servers.len(), limits.max_dns),
    ] {
        if count > max {
            return Err(CheckError::Invalid(format!("{count} {field}, more than {max}")));
        }
    }
    let longest = wire
        .metadata
        .iter()
        .flat_map(|(key, value)| [key.len(), value.len()])
        .max();
    match longest.filter(|length| *length > limits.max_text) {
        Some(length) => Err(CheckError::Invalid(format!(
            "a text of {length} bytes in metadata, more than {}",
            limits.max_text
        ))),
        None => Ok(()),
    }
}

/// Parses routes and DNS servers; skips invalid entries. Rejects a reply none of whose routes is
/// valid: without routes the client gets the server's own, which may be more than the portal meant.
fn grant(wire: &wire::CheckPolicyResponse, ignored: &mut Ignored) -> Result<Grant, CheckError> {
    let routes: Arc<[String]> = valid(&wire.routes, parse_route, |bad| {
        ignored.entries("routes", bad);
    })
    .into();
    if routes.is_empty() && !wire.routes.is_empty() {
        return Err(CheckError::Invalid(
            "routes of which none is an address or a network".to_owned(),
        ));
    }
    let address = |text: &str| text.trim().parse::<IpAddr>().ok();
    let dns_servers = valid(&wire.dns_servers, address, |bad| {
        ignored.entries("dns_servers", bad);
    })
    .into();
    Ok(Grant { routes, dns_servers })
}

/// ocserv's keyword for a route to everything, or a network in CIDR notation.
fn parse_route(text: &str) -> Option<String> {
    match text.trim() {
        "default" => Some("default".to_owned()),
        text => Some(Route::parse(text).ok()?.to_string()),
    }
}

/// Parses the entries, and passes those that are invalid to `report` if there are any.
fn valid<T>(
    entries: &[String],
    parse: impl Fn(&str) -> Option<T>,
    report: impl FnOnce(&[&String]),
) -> Vec<T> {
    let mut invalid = Vec::new();
    let valid = entries.iter().filter_map(|entry| {
        let parsed = parse(entry);
        if parsed.is_none() {
            invalid.push(entry);
        }
        parsed
    });
    let valid = valid.collect();
    if !invalid.is_empty() {
        report(&invalid);
    }
    valid
}

/// Describes the values of one answer that are invalid and ignored.
#[derive(Default)]
struct Ignored(String);

impl Ignored {
    fn entries(&mut self, field: &str, entries: &[&String]) {
        let first = entries.first().map(|entry| one_line(entry)).unwrap_or_default();
        self.add(&format!(
            "{} invalid {field}, the first is {first:?}",
            entries.len()
        ));
    }

    fn add(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
        self.0.push_str(text);
    }
}

/// Parses the TTL; `None` without one. An invalid value forbids caching: the portal meant a limit,
/// and the default may be longer.
fn ttl(metadata: &HashMap<String, String>, ignored: &mut Ignored) -> Option<Duration> {
    let text = metadata.get("cache_ttl_seconds")?;
    let seconds = text.parse().unwrap_or_else(|_| {
        let text = one_line(text);
        ignored.add(&format!(
            "invalid cache_ttl_seconds, decision not cached: {text:?}"
        ));
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
        return Err(CheckError::Contradiction("valid and force_disconnect at once"));
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
    Update(wire::ReportSessionUpdateRequest),
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
    if let Some(vhost) = &event.vhost {
        metadata.insert("vhost".to_owned(), vhost_text(vhost));
    }
    if let Some(Reconciled { time_accuracy }) = event.reconciled {
        metadata.insert("reconciled".to_owned(), "true".to_owned());
        // Rounded up: the bound holds.
        let seconds = time_accuracy.as_secs() + u64::from(time_accuracy.subsec_nanos() > 0);
        metadata.insert("time_accuracy_seconds".to_owned(), seconds.to_string());
    }
    match &event.kind {
        EventKind::Connected(connected) => EventReport::Connect(wire::ReportConnectRequest {
            username: event.username.to_string(),
            session_id: event.id.to_string(),
            client_ip: connected.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
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
            let stats = end
                .usage
                .map(|usage| stats(usage, end.duration.unwrap_or_default()));
            if let (None, Some(duration)) = (&stats, end.duration) {
                metadata.insert("duration_seconds".to_owned(), duration.as_secs().to_string());
            }
            let usage = match (&stats, end.is_sampled) {
                (None, _) => "unknown",
                (Some(_), true) => "sampled",
                (Some(_), false) => "final",
            };
            metadata.insert("usage".to_owned(), usage.to_owned());
            EventReport::Disconnect(wire::ReportDisconnectRequest {
                username: event.username.to_string(),
                session_id: event.id.to_string(),
                disconnected_at: Some(Timestamp::from(end.at)),
                reason: disconnect_reason(end.reason).into(),
                stats,
                metadata,
            })
        }
        EventKind::Updated(update) => {
            let usage = update.usage.map_or("unknown", |_| "sampled");
            metadata.insert("usage".to_owned(), usage.to_owned());
            EventReport::Update(wire::ReportSessionUpdateRequest {
                username: event.username.to_string(),
                session_id: event.id.to_string(),
                update_time: Some(Timestamp::from(update.at)),
                current_stats: update.usage.map(|usage| stats(usage, update.duration)),
                status: session_status(update.status).into(),
                metadata,
            })
        }
    }
}

/// The usage on the wire. There is none without byte counts: zeros would claim that there was no
/// traffic.
fn stats(usage: Usage, duration: Duration) -> wire::SessionStats {
    wire::SessionStats {
        duration_seconds: duration.as_secs().try_into().unwrap_or(i64::MAX),
        bytes_received: usage.received,
        bytes_sent: usage.sent,
        packets_received: 0,
        packets_sent: 0,
    }
}

fn session_status(status: SessionStatus) -> wire::SessionStatus {
    match status {
        SessionStatus::Active => wire::SessionStatus::Active,
        SessionStatus::Idle => wire::SessionStatus::Idle,
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
