//! Drains the agent: not ready for new users, while every login is decided as before.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::notifications::Notifications;
use super::shared_outbox::SharedOutbox;
use super::store_status::{NotStored, StoreStatus};

/// Longest time that a drain waits for pending events to be delivered.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks at the events that are pending.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// Whether the agent is draining; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct DrainState(watch::Sender<bool>);

impl DrainState {
    /// Whether the agent is draining.
    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Sets the state; returns whether it changed.
    fn set(&self, is_draining: bool) -> bool {
        self.0.send_replace(is_draining) != is_draining
    }
}

/// Drains and resumes; clones share everything.
#[derive(Clone)]
pub(crate) struct Drain {
    state: DrainState,
    outbox: SharedOutbox,
    /// `None` where decisions are not stored.
    store: Option<StoreStatus>,
    notifications: Notifications,
}

/// What a drain has flushed.
#[derive(Debug)]
pub(crate) struct DrainSummary {
    /// Events that the portal has not acknowledged yet.
    pub(crate) pending: usize,
    /// Whether the decisions are on disk.
    pub(crate) stored: Result<(), NotStored>,
}

impl Drain {
    pub(crate) fn new(
        state: DrainState,
        outbox: SharedOutbox,
        store: Option<StoreStatus>,
        notifications: Notifications,
    ) -> Self {
        Self {
            state,
            outbox,
            store,
            notifications,
        }
    }

    /// Starts to drain, stores the decisions and waits for the delivery of the pending events.
    pub(crate) async fn start(&self) -> DrainSummary {
        if self.state.set(true) {
            tracing::warn!("draining: not ready, logins are still decided");
            self.notifications.drain_changed(true);
        }
        self.outbox.clear_delays();
        let (stored, ()) = tokio::join!(self.store_decisions(), self.flush_events());
        DrainSummary {
            pending: self.outbox.stats().pending,
            stored,
        }
    }

    /// Ends the drain.
    pub(crate) fn resume(&self) {
        if self.state.set(false) {
            tracing::warn!("resumed: the agent is not draining any more");
            self.notifications.drain_changed(false);
        }
    }

    async fn store_decisions(&self) -> Result<(), NotStored> {
        match &self.store {
            Some(store) => store.store_now().await,
            None => Ok(()),
        }
    }

    async fn flush_events(&self) {
        let flushed = async {
            while self.outbox.stats().pending > 0 {
                sleep(FLUSH_INTERVAL).await;
            }
        };
        let _elapsed = timeout(FLUSH_TIMEOUT, flushed).await;
    }
}
