//! Wire messages to our own words and back. The conversion is the validation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DenyCode, DisconnectReason, Event, EventKind, Grant, Login, Verdict};
use ocserv_agent_proto::vpn::v1 as wire;
use prost_types::Timestamp;

use crate::{Answer, CheckError, Validity};

/// The longest text of a portal that goes into a log line or a reply, in characters.
const MAX_TEXT: usize = 300;

const EMPTY: &str =
    "an empty message, which is no decision: a deny must say why (deny_reason) or carry metadata";

pub(crate) fn check_policy(login: &Login, now: SystemTime) -> wire::CheckPolicyRequest {
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

pub(crate) fn answer(wire: &wire::CheckPolicyResponse) -> Result<Answer, CheckError> {
    // An explicit "no" without anything else is the same zero bytes on the wire as no answer at all (a stub, a handler
    // that forgot to fill its response, a proxy that cut the body), so it cannot be taken for a decision.
    if *wire == wire::CheckPolicyResponse::default() {
        return Err(CheckError::Nonsense(EMPTY));
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
    Ok(Answer {
        verdict,
        ttl: ttl(&wire.metadata),
        policy_version: policy_version(&wire.metadata),
    })
}

/// What the client gets. An entry that cannot be read is left out; if that leaves no route of those that were meant,
/// the answer is nonsense, because no routes at all means the server's own, which may be more than was meant.
fn grant(wire: &wire::CheckPolicyResponse) -> Result<Grant, CheckError> {
    let routes: Vec<_> = wire
        .routes
        .iter()
        .filter(|route| kept("route", route, is_cidr))
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
        .filter(|server| kept("dns server", server, is_address));
    Ok(Grant {
        routes,
        dns_servers: dns_servers.filter_map(|server| server.parse().ok()).collect(),
    })
}

fn kept(what: &str, entry: &str, good: impl Fn(&str) -> bool) -> bool {
    let good = good(entry);
    if !good {
        tracing::warn!(
            "portal sent a {what} that cannot be read, left out: {}",
            one_line(entry)
        );
    }
    good
}

fn is_cidr(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match length {
        None => true,
        // Digits only: `parse` would take a sign, too.
        Some(length) => {
            length.bytes().all(|byte| byte.is_ascii_digit())
                && length.parse::<u8>().is_ok_and(|length| length <= longest)
        }
    }
}

/// `None` when the portal says nothing, zero when it must not be kept. What cannot be read is not kept either: the
/// portal meant to set a limit, and no limit of ours may be longer than the one that it meant.
fn ttl(metadata: &HashMap<String, String>) -> Option<Duration> {
    let text = metadata.get("cache_ttl_seconds")?;
    let seconds = text.parse().unwrap_or_else(|_| {
        let text = one_line(text);
        tracing::warn!("portal sent cache_ttl_seconds = {text:?}, no whole number of seconds: not kept");
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

pub(crate) fn validity(wire: &wire::ValidateSessionResponse) -> Result<Validity, CheckError> {
    if wire.valid && wire.force_disconnect {
        return Err(CheckError::Nonsense(
            "a contradiction: valid and force_disconnect at once",
        ));
    }
    Ok(Validity {
        valid: wire.valid,
        reason: one_line(&wire.invalid_reason),
        force_disconnect: wire.force_disconnect,
    })
}

/// The event as one of the two messages that tell of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Report {
    Connect(wire::ReportConnectRequest),
    Disconnect(wire::ReportDisconnectRequest),
}

pub(crate) fn report(event: &Event, agent_id: &str) -> Report {
    let mut metadata = HashMap::from([
        ("event_id".to_owned(), event.event_id.to_string()),
        ("session_uid".to_owned(), event.uid.to_string()),
        ("agent_id".to_owned(), agent_id.to_owned()),
    ]);
    if let Some(source) = event.decision_source {
        metadata.insert("decision_source".to_owned(), source.to_string());
    }
    match &event.kind {
        EventKind::Connected(connected) => Report::Connect(wire::ReportConnectRequest {
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
            // Without byte counts there are no `stats`: zeros would claim that nothing was moved.
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
            Report::Disconnect(wire::ReportDisconnectRequest {
                username: event.username.to_string(),
                session_id: event.id.to_string(),
                disconnected_at: Some(Timestamp::from(end.at)),
                reason: reason(end.reason).into(),
                stats,
                metadata,
            })
        }
    }
}

fn reason(reason: DisconnectReason) -> wire::DisconnectReason {
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

/// A text of the portal for a log line: one line, of bounded length.
pub(crate) fn one_line(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.trim()
        .chars()
        .take(MAX_TEXT)
        .map(|c| if breaks(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
