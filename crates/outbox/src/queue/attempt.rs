//! Attempts to send an event.

use std::time::Instant;

use ocserv_agent_model::Event;

/// The next step of a sender.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this event, and settle the attempt with its result.
    Send(Box<Attempt>),
    /// Wait: nothing may be sent before this time.
    Later(Instant),
    /// Wait: nothing may be sent before an event is pushed or read, or an attempt is settled.
    Idle,
}

/// One event to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The attempt's id, for [`Outbox::settle`].
    pub id: AttemptId,
    /// The event.
    pub event: Event,
    /// How often the portal has deferred the event so far.
    pub deferrals: u32,
}

/// Identifies an attempt in flight.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an attempt that is not settled stays in flight"]
pub struct AttemptId(pub(super) u64);

/// The result of an attempt to send an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The portal acknowledged the event.
    Delivered,
    /// The portal rejected the event for good; its reason. `retry_at` is when it is sent again if
    /// too many rejected events wait to be written.
    Rejected {
        /// The portal's reason.
        problem: String,
        /// See above.
        retry_at: Instant,
    },
    /// The portal did not acknowledge the event; the next attempt is not before this time.
    Deferred(Instant),
    /// The portal was not reached.
    Unreachable,
}
