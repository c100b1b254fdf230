//! The queue of events for the portal: bounded, in order per session.
//!
//! The events of one session are sent one after the other, those of several sessions concurrently.
//! An event is removed when the portal acknowledges it, when the portal rejects it for good, or
//! when the bound drops it; the caller logs and counts lost events.
//!
//! Depends on `ocserv-agent-model` only. Plain values: no clock (`now` is a parameter), no I/O, no
//! lock.

mod queue;

pub use queue::{Attempt, AttemptId, AttemptResult, Next, Outbox, OutboxStats};
