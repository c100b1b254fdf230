//! Events on their way to the portal: a bounded queue, in order per session, and what to send next.
//!
//! The events of one session are sent one after the other, those of several sessions at once. An
//! event leaves the queue when the portal has it, when the portal rejects it for good, or when the
//! bound drops it; the caller logs and counts what is lost.
//!
//! Leans on `ocserv-agent-model` alone. Plain values: no clock (`now` is a parameter), no I/O, no
//! lock.

mod queue;

pub use queue::{Attempt, AttemptId, AttemptResult, Next, Outbox, OutboxStats};
