//! What goes over the Unix socket of a running portal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A request: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The agents with a control stream.
    Agents,
    /// An action on one of them.
    Action {
        agent: String,
        action: String,
        parameters: BTreeMap<String, String>,
        request_id: String,
        timeout_seconds: u64,
    },
}

/// The reply: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Agents(Vec<AgentInfo>),
    Result(ActionResult),
    Error(String),
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentInfo {
    pub(crate) agent_id: String,
    pub(crate) peer: String,
    /// `serving`, `draining` or `stopping`.
    pub(crate) state: String,
    /// Of the last heartbeat; empty before the first.
    pub(crate) health: String,
    pub(crate) sessions: Option<u32>,
    pub(crate) connected_since: String,
    pub(crate) last_message: String,
    /// The metadata of the registration.
    pub(crate) registration: BTreeMap<String, String>,
}

/// The result of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActionResult {
    pub(crate) request_id: String,
    pub(crate) success: bool,
    pub(crate) message: String,
    /// What depends on the action.
    pub(crate) details: BTreeMap<String, String>,
}
