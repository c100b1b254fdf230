//! The background tasks, one file per job.

pub(crate) mod announce_switches;
pub(crate) mod deliver_events;
pub(crate) mod disconnect_denied_users;
pub(crate) mod persist_decisions;
pub(crate) mod persist_events;
pub(crate) mod reconcile;
pub(crate) mod sweep_decisions;
pub(crate) mod validate_sessions;
pub(crate) mod watch_certificates;
pub(crate) mod watch_policy;
