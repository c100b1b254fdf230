//! The audit line of a login that has no decision.

use ocserv_agent_model::one_line;
use tokio::time::Instant;

use crate::clock;

/// The longest unchecked text in an audit line, in characters.
const MAX_UNCHECKED: usize = 64;

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
