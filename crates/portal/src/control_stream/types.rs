//! What goes over the control stream, in the agent's types.

use std::collections::BTreeMap;
use std::fmt::Display;

use ocserv_agent_model::one_line;

/// Longest `event_type`, key or value in a message to the portal, in characters.
pub(super) const MAX_TEXT: usize = 1_000;

/// An event for the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The kind, in snake_case.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
    /// What depends on the kind.
    pub metadata: BTreeMap<&'static str, String>,
    /// Identifies the event within this process, in all repetitions; `None` has the sender choose.
    pub event_id: Option<String>,
}

impl Notification {
    /// Creates an event without metadata.
    #[must_use]
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            metadata: BTreeMap::new(),
            event_id: None,
        }
    }

    /// Adds a value to the metadata.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.metadata.insert(key, one_line(&format!("{value}"), MAX_TEXT));
        self
    }
}

/// Health of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentHealth {
    /// Everything works.
    Healthy,
    /// Logins are decided, but something is missing.
    Degraded,
    /// Logins cannot be decided, or ocserv does not run.
    Unhealthy,
}

/// Load of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SystemLoad {
    /// Usage of all processors since the last report, in percent.
    pub cpu_percent: f64,
    /// Memory, in bytes.
    pub memory_total: u64,
    /// Memory in use, in bytes.
    pub memory_used: u64,
    /// Load average over the last minute.
    pub load_1m: f64,
}

/// State of ocserv.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OcservState {
    /// Whether it answers.
    pub is_running: bool,
    /// Its version; empty if unknown.
    pub version: String,
    /// Connected sessions.
    pub sessions: u32,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The agent.
    pub health: AgentHealth,
    /// The machine, where it could be measured.
    pub system: Option<SystemLoad>,
    /// ocserv.
    pub ocserv: OcservState,
}

/// A report of metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsReport {
    /// The machine, where it could be measured.
    pub system: Option<SystemLoad>,
    /// ocserv.
    pub ocserv: OcservState,
    /// Others: name and decimal text. Never a username or an address.
    pub custom: BTreeMap<&'static str, String>,
}

/// An instruction of the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The portal's id of it; not empty, one line of at most 128 characters.
    pub request_id: String,
    /// What to do.
    pub kind: InstructionKind,
}

/// What an instruction demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// An action.
    Action {
        /// Its name; one line.
        name: String,
        /// Its parameters, as they were sent.
        parameters: BTreeMap<String, String>,
    },
    /// To run a command.
    Command,
    /// To replace a configuration file.
    ConfigUpdate,
}

/// State and totals of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControlStats {
    /// Whether the portal has accepted the stream that is open.
    pub connected: bool,
    /// Whether the portal serves no control stream, as far as is known.
    pub unsupported: bool,
    /// Streams that were opened.
    pub streams: u64,
    /// Events that the portal has not acknowledged.
    pub pending: usize,
    /// Events that were dropped, because too many were pending.
    pub dropped: u64,
}
