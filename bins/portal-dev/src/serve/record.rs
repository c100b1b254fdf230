//! The lines of JSON: what the portal heard and what it answered. `docs/portal-dev.md` describes every field.

use std::net::IpAddr;
use std::time::SystemTime;

use policy::Policy;
use serde::Serialize;

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    /// When, by this machine's clock; RFC 3339, UTC.
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened, told apart by `kind`.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum What {
    /// `CheckPolicy`.
    CheckPolicy {
        peer: String,
        username: String,
        groupname: Option<String>,
        client_ip: IpAddr,
        vpn_ip: Option<IpAddr>,
        session_id: String,
        device: String,
        request_time: Option<String>,
        allowed: bool,
        deny_reason: Option<String>,
        routes: Vec<String>,
        dns_servers: Vec<String>,
        ttl_seconds: Option<u64>,
        rule: Option<usize>,
        policy_version: String,
    },
    /// `ValidateSession`.
    ValidateSession {
        peer: String,
        username: String,
        groupname: Option<String>,
        session_known: bool,
        client_ip: IpAddr,
        session_id: String,
        request_time: Option<String>,
        valid: bool,
        invalid_reason: Option<String>,
        force_disconnect: bool,
        policy_version: String,
    },
    /// `ReportConnect`.
    Connect {
        peer: String,
        #[serde(flatten)]
        event: Event,
        connected_at: Option<String>,
        client_ip: IpAddr,
        vpn_ip: Option<IpAddr>,
        device: String,
        groupname: Option<String>,
    },
    /// `ReportDisconnect`.
    Disconnect {
        peer: String,
        #[serde(flatten)]
        event: Event,
        disconnected_at: Option<String>,
        reason: String,
        stats: Option<Stats>,
    },
    /// `ReportSessionUpdate`.
    SessionUpdate {
        peer: String,
        username: String,
        session_id: String,
        update_time: Option<String>,
        status: String,
        stats: Option<Stats>,
        should_disconnect: bool,
        disconnect_reason: Option<String>,
    },
    /// A request that does not make sense; it was answered with `INVALID_ARGUMENT`.
    BadRequest {
        peer: String,
        rpc: &'static str,
        error: String,
    },
    /// The policy file was read, at the start or because it changed, and is in use.
    PolicyLoaded { policy_version: String, rules: usize },
    /// The policy file changed and has a fault; the policy named stays in use.
    PolicyRefused { policy_version: String, error: String },
}

/// What connects and disconnects have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub(super) username: String,
    pub(super) session_id: String,
    pub(super) event_id: Option<String>,
    pub(super) session_uid: Option<String>,
    pub(super) agent_id: Option<String>,
    pub(super) decision_source: Option<String>,
    /// Whether an event of this id was written before.
    pub(super) duplicate: bool,
}

/// What a session moved; received and sent as the VPN server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Stats {
    pub(super) duration_seconds: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) packets_sent: u64,
}

impl What {
    /// A policy came into use.
    pub(super) fn loaded(policy: &Policy) -> Self {
        Self::PolicyLoaded {
            policy_version: policy.fingerprint().to_owned(),
            rules: policy.rule_count(),
        }
    }
}

impl Record {
    /// Stamps what happened with the time of now.
    pub(super) fn now(what: What) -> Self {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { time, what }
    }

    /// The event in it, where it is one that may come twice.
    pub(super) fn event_mut(&mut self) -> Option<&mut Event> {
        match &mut self.what {
            What::Connect { event, .. } | What::Disconnect { event, .. } => Some(event),
            What::CheckPolicy { .. }
            | What::ValidateSession { .. }
            | What::SessionUpdate { .. }
            | What::BadRequest { .. }
            | What::PolicyLoaded { .. }
            | What::PolicyRefused { .. } => None,
        }
    }
}
