//! Events on their way to the portal: a bounded queue in memory and the one task that delivers it.
//!
//! Delivered means that the portal said so. An event that it did not take is offered again, for as long as it takes;
//! the portal knows it by its `event_id`. Events of one session go one after the other, those of several sessions
//! together. What the bound pushes out is counted and logged: it is lost.

mod delivery;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use delivery::Delivery;
use ocserv_agent_model::Event;
use tokio::sync::Notify;

use queue::Queue;

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the one who delivers.
    pushed: Notify,
}

/// How many events are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EventCounts {
    /// Waiting now, or on their way.
    pub(crate) pending: usize,
    /// Taken by the portal since the start.
    pub(crate) delivered: u64,
    /// Lost since the start, because more than the bound waited.
    pub(crate) dropped: u64,
    /// Lost since the start, because the portal finds fault with the event itself and will never take it.
    pub(crate) rejected: u64,
}

impl Events {
    /// A queue for at most `max` events.
    #[must_use]
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(max)),
            pushed: Notify::new(),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event at the end. When the queue is full an older one is lost for it.
    pub(crate) fn push(&self, event: Event) {
        let lost = self.queue().push(event);
        if let Some((event_id, dropped)) = lost {
            tracing::error!(%event_id, dropped, "event lost: events.max_pending are waiting for the portal");
        }
        self.0.pushed.notify_one();
    }

    /// How many are where.
    #[must_use]
    pub(crate) fn counts(&self) -> EventCounts {
        self.queue().counts()
    }

    /// What waits now, in order.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<Event> {
        self.queue().waiting()
    }
}

#[cfg(test)]
mod tests;
