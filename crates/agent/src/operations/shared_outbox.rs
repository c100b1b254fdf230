//! The outbox, shared by the session recorder and the delivery job.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocserv_agent_model::Event;
use outbox::{AttemptId, AttemptResult, Next, Outbox, OutboxStats};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Holds the pending events; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SharedOutbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    pushed: Notify,
}

impl SharedOutbox {
    /// Creates an empty outbox for at most `max` events.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(max)),
            pushed: Notify::new(),
        }))
    }

    /// Adds an event; logs the one that a full outbox drops.
    pub(crate) fn push(&self, event: Event) {
        let (lost, dropped) = {
            let mut outbox = self.lock();
            (outbox.push(event), outbox.stats().dropped)
        };
        if let Some(Event { event_id, .. }) = lost {
            tracing::error!(%event_id, dropped, "event lost: more than events.max_pending are pending");
        }
        self.0.pushed.notify_one();
    }

    /// Waits until an event is pushed; returns at once when one was pushed since the last wait.
    pub(crate) async fn pushed(&self) {
        self.0.pushed.notified().await;
    }

    /// See [`Outbox::next`].
    pub(crate) fn next(&self, now: Instant) -> Next {
        self.lock().next(now.into_std())
    }

    /// See [`Outbox::settle`].
    pub(crate) fn settle(&self, attempt: AttemptId, result: AttemptResult) {
        self.lock().settle(attempt, result);
    }

    /// See [`Outbox::clear_delays`].
    pub(crate) fn clear_delays(&self) {
        self.lock().clear_delays();
    }

    /// See [`Outbox::stats`].
    pub(crate) fn stats(&self) -> OutboxStats {
        self.lock().stats()
    }

    /// The pending events, the oldest first.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> Vec<Event> {
        self.lock().pending().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // No method of the outbox panics with a change half made.
        self.0.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
