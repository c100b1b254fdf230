//! The audit lines of logins that come to no decision.

use ocserv_agent_model::{Login, one_line};
use tokio::time::Instant;

use crate::clock;

/// The longest unchecked text in an audit line, in characters.
const MAX_UNCHECKED: usize = 64;

/// Writes the audit line of a login whose helper waits no longer: what it made of that is not known
/// here.
pub(super) fn audit_too_late(login: &Login, arrived: Instant) {
    tracing::info!(
        target: "audit",
        user = login.username.as_str(),
        client_ip = %login.client_ip,
        id = %login.id,
        outcome = "on_agent_down",
        reason = "read after the helper's deadline: ON_AGENT_DOWN of the connect-script applies",
        duration_ms = u64::try_from((clock::now() - arrived).as_millis()).unwrap_or(u64::MAX),
        "login not decided"
    );
}

/// Writes the audit line of a login that was rejected before its decision. The request's fields are
/// unchecked: they are truncated, and logged as strings, which both log formats quote.
pub(super) fn audit_rejection(request: &ipc::Request, response: &ipc::Response, arrived: Instant) {
    tracing::info!(
        target: "audit",
        user = one_line(&request.username, MAX_UNCHECKED),
        client_ip = one_line(&request.ip_real, MAX_UNCHECKED),
        id = one_line(&request.session_id, MAX_UNCHECKED),
        outcome = "deny",
        source = response.source,
        deny_code = response.deny_code,
        reason = response.error,
        duration_ms = u64::try_from((clock::now() - arrived).as_millis()).unwrap_or(u64::MAX),
        "login decided"
    );
}
