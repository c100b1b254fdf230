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
    /// Whether it is in the dead letters already, since a commit after them failed.
    pub is_in_file: bool,
}

/// What a writer has to do. When it is done, [`Outbox::written`](super::Outbox::written) is to be
/// called, and else [`Outbox::not_written`](super::Outbox::not_written).
#[derive(Debug, Default)]
pub struct Work {
    /// Events to write.
    pub events: Vec<NewEvent>,
    /// Sequences of events to remove.
    pub settled: Vec<u64>,
    /// Rejected events. Those in the dead letters are removed too.
    pub rejected: Vec<Rejected>,
}

impl Work {
    /// The sequences to remove: of what was delivered, and of what is in the dead letters.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        let rejected = self.rejected.iter().filter(|rejected| rejected.is_in_file);
        let rejected = rejected.map(|rejected| rejected.sequence);
        self.settled.iter().copied().chain(rejected)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.settled.is_empty() && self.rejected.is_empty()
    }
}
