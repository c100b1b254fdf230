//! What the agent does by itself. A job calls operations and ends with its cancellation token.

pub(crate) mod deliver_events;
pub(crate) mod probe_ocserv;
pub(crate) mod validate_sessions;
pub(crate) mod watch_policy;
