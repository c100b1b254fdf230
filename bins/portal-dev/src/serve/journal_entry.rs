//! The lines of JSON: requests and decisions. `docs/portal-dev.md` describes every field.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ocserv_agent_proto::agent::v1::OcservStatus;
use policy::Policy;
use serde::Serialize;

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct JournalLine {
    /// Time of the entry by the local clock; RFC 3339, UTC.
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) entry: JournalEntry,
}

/// The entry of a line, distinguished by `kind`.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum JournalEntry {
    /// `CheckPolicy`.
    CheckPolicy {
        peer: String,
        username: String,
        groupname: Option<String>,
        vhost: String,
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
        client_ip: Option<IpAddr>,
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
        #[serde(flatten)]
        event: Event,
        update_time: Option<String>,
        status: String,
        stats: Option<Stats>,
        should_disconnect: bool,
        disconnect_reason: Option<String>,
    },
    /// An event on an agent's control stream.
    AgentEvent {
        peer: String,
        #[serde(flatten)]
        event: AgentEvent,
    },
    /// A heartbeat of an agent.
    Heartbeat {
        peer: String,
        agent_id: String,
        status: String,
        ocserv: Option<OcservState>,
        cpu_usage_percent: f64,
        memory_usage_percent: f64,
        load_average_1m: f64,
    },
    /// A report of an agent's metrics.
    AgentMetrics {
        peer: String,
        agent_id: String,
        ocserv: Option<OcservState>,
        metrics: BTreeMap<String, String>,
    },
    /// An invalid request, which got `INVALID_ARGUMENT`.
    BadRequest {
        peer: String,
        rpc: &'static str,
        error: String,
    },
    /// The policy file was read, at the start or after a change, and is in effect.
    PolicyLoaded { policy_version: String, rules: usize },
    /// The changed policy file is invalid; the policy of this version stays in effect.
    PolicyRefused { policy_version: String, error: String },
}

/// Fields common to connects, disconnects and updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub(super) username: String,
    pub(super) session_id: String,
    pub(super) event_id: Option<String>,
    pub(super) session_uid: Option<String>,
    pub(super) agent_id: Option<String>,
    pub(super) decision_source: Option<String>,
    pub(super) vhost: Option<String>,
    /// How the usage is known: `final`, `sampled` or `unknown`.
    pub(super) usage: Option<String>,
    /// Whether no script reported it.
    pub(super) reconciled: bool,
    pub(super) time_accuracy_seconds: Option<u64>,
    /// Whether an event with this id was written before.
    pub(super) duplicate: bool,
}

/// An event on an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AgentEvent {
    pub(super) agent_id: String,
    pub(super) event_type: String,
    pub(super) event_id: Option<String>,
    pub(super) message: String,
    pub(super) metadata: BTreeMap<String, String>,
    /// Whether an event with this id was written before.
    pub(super) duplicate: bool,
}

/// State of an agent's ocserv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OcservState {
    pub(super) is_running: bool,
    pub(super) version: String,
    pub(super) active_sessions: u32,
    pub(super) total_bytes_in: u64,
    pub(super) total_bytes_out: u64,
}

impl From<OcservStatus> for OcservState {
    fn from(status: OcservStatus) -> Self {
        let OcservStatus {
            is_running,
            version,
            active_sessions,
            total_bytes_in,
            total_bytes_out,
        } = status;
        Self {
            is_running,
            version,
            active_sessions,
            total_bytes_in,
            total_bytes_out,
        }
    }
}

/// Usage of a session; received and sent by the VPN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Stats {
    pub(super) duration_seconds: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) packets_sent: u64,
}

impl JournalEntry {
    /// Creates the entry of a policy that came into effect.
    pub(super) fn policy_loaded(policy: &Policy) -> Self {
        Self::PolicyLoaded {
            policy_version: policy.fingerprint().to_owned(),
            rules: policy.rule_count(),
        }
    }
}

impl JournalLine {
    /// Creates a line with the current time.
    pub(super) fn now(entry: JournalEntry) -> Self {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { time, entry }
    }

    /// Returns the id of an entry that may be repeated, and whether it is.
    pub(super) fn event_mut(&mut self) -> Option<(&Option<String>, &mut bool)> {
        match &mut self.entry {
            JournalEntry::Connect { event, .. }
            | JournalEntry::Disconnect { event, .. }
            | JournalEntry::SessionUpdate { event, .. } => Some((&event.event_id, &mut event.duplicate)),
            JournalEntry::AgentEvent { event, .. } => Some((&event.event_id, &mut event.duplicate)),
            JournalEntry::CheckPolicy { .. }
            | JournalEntry::ValidateSession { .. }
            | JournalEntry::Heartbeat { .. }
            | JournalEntry::AgentMetrics { .. }
            | JournalEntry::BadRequest { .. }
            | JournalEntry::PolicyLoaded { .. }
            | JournalEntry::PolicyRefused { .. } => None,
        }
    }
}
