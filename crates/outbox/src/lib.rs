//! Events on their way to the portal: a durable store, and a bounded queue of what to send next.
//!
//! The events of one session are sent one after the other, those of several sessions concurrently.
//! An event is removed when the portal acknowledges it, when the portal rejects it for good, or
//! when the bound drops it; the caller logs and counts lost events.
//!
//! The queue is plain values: no clock (`now` is a parameter), no I/O, no lock. The store and the
//! dead letters do I/O; their calls block.

pub mod dead_letters;
mod format;
mod queue;
pub mod store;

pub use format::QueuedEvent;
pub use queue::{
    Attempt, AttemptId, AttemptResult, Dropped, Limits, Next, Outbox, OutboxStats, Rejected, Work,
};
