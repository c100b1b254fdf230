//! What a writer has to do.

use crate::format::QueuedEvent;
use crate::store::NewEvent;

/// An event that the portal rejected for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub(crate) sequence: u64,
    /// The event.
    pub event: QueuedEvent,
    /// The portal's reason.
    pub problem: String,
}

/// What a writer has to do. When it is done, [`Outbox::written`](super::Outbox::written) is to be
/// called, and else [`Outbox::not_written`](super::Outbox::not_written).
#[derive(Debug, Default)]
pub struct Work {
    /// Events to write.
    pub events: Vec<NewEvent>,
    /// Sequences of events to remove.
    pub settled: Vec<u64>,
    /// Rejected events, for the dead letters. Written first, they are then removed too.
    pub rejected: Vec<Rejected>,
}

impl Work {
    /// The sequences to remove once the dead letters are written.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        let rejected = self.rejected.iter().map(|rejected| rejected.sequence);
        self.settled.iter().copied().chain(rejected)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.settled.is_empty() && self.rejected.is_empty()
    }
}
