//! The outbox, shared by the session recorder and the delivery job.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_model::Event;
use outbox::{AttemptId, AttemptResult, Next, Outbox, OutboxStats};
use resilience::LogLimiter;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;

/// Time between two log lines about lost events.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Holds the pending events; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SharedOutbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    pushed: Notify,
    loss_log: LogLimiter,
}

impl SharedOutbox {
    /// Creates an empty outbox for at most `max` events.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(max)),
            pushed: Notify::new(),
            loss_log: LogLimiter::new(NonZeroU32::MIN, LOG_INTERVAL),
        }))
    }

    /// Adds an event; logs those that a full outbox drops: at most one line a second, with their
    /// number since the start.
    pub(crate) fn push(&self, event: Event) {
        let (lost, dropped) = {
            let mut outbox = self.lock();
            (outbox.push(event), outbox.stats().dropped)
        };
        if let Some(Event { event_id, .. }) = lost
            && let Some(suppressed) = self.0.loss_log.admit(clock::now().into_std())
        {
            tracing::error!(
                %event_id, dropped, suppressed,
                "event lost: more than events.max_pending are pending"
            );
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
