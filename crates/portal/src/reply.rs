//! The portal's replies, in the agent's types.

use std::time::Duration;

use ocserv_agent_model::Verdict;

/// The portal's reply to a policy check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReply {
    /// Allow or deny.
    pub verdict: Verdict,
    /// How long the verdict may be cached: zero forbids caching, `None` leaves it to the agent's
    /// settings.
    pub ttl: Option<Duration>,
    /// The version of the policy that decided, for the decision log; one line.
    pub policy_version: Option<String>,
    /// Whether the connected sessions of the user must end. Never together with an allow.
    pub disconnect: bool,
    /// Values that were invalid and are ignored, for the log; empty when there are none.
    pub ignored: String,
}

/// The portal's reply about a connected session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionValidity {
    /// Whether the session may continue.
    pub valid: bool,
    /// Why not; one line, may be empty.
    pub reason: String,
    /// Whether the session must be disconnected now. Never together with `valid`.
    pub force_disconnect: bool,
}
