//! The outbox, shared by who reports events, the delivery job and the job that writes it to disk.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_model::Event;
use outbox::store::{Chunk, SessionKey};
use outbox::{AttemptId, AttemptResult, Limits, Next, Outbox, OutboxStats, QueuedEvent, Work};
use resilience::LogLimiter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::store_status::{NotStored, StoreStatus};
use crate::clock;

/// Time between two log lines about lost events.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Events in memory that are on disk too.
const WINDOW: usize = 4_096;
/// Above the bytes of an encoded event.
const MAX_EVENT: u64 = 4 << 10;
/// Events in memory that are not on disk, as while the disk does not work.
const MAX_UNSAVED: usize = 32_768;

/// Holds the pending events and the changed rows of sessions; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct SharedOutbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told of events that may be sent.
    sendable: Notify,
    /// Told to send without delays.
    undelayed: Notify,
    /// Told of what is to be removed, or to be read.
    removable: Notify,
    status: StoreStatus,
    loss_log: LogLimiter,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    max_bytes: u64,
    /// The latest row of each session that changed.
    rows: HashMap<SessionKey, Option<Vec<u8>>>,
}

/// Rows of sessions: `None` removes one.
pub(crate) type Rows = Vec<(SessionKey, Option<Vec<u8>>)>;

/// What the writer has to do.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    pub(crate) work: Work,
    pub(crate) rows: Rows,
    /// The appends that are done with it.
    pub(crate) requests: u64,
    /// Where to read on, when there is room for more events.
    pub(crate) read_from: Option<u64>,
}

/// Events and rows that are to be on disk soon.
#[must_use = "events that nobody waits for are pushed"]
pub(crate) struct Appended {
    request: u64,
    status: StoreStatus,
}

impl Appended {
    /// Waits until they are on disk, at most until `by`.
    ///
    /// # Errors
    /// When the disk does not work, or the time is over. They are in memory then, and are written
    /// once the disk works.
    pub(crate) async fn durable(self, by: Instant) -> Result<(), NotStored> {
        self.status.stored(self.request, by).await
    }
}

impl SharedOutbox {
    /// Creates an empty outbox for at most `max_bytes` of events.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let limits = Limits {
            max_bytes,
            window: WINDOW,
            max_unsaved: MAX_UNSAVED,
        };
        let state = State {
            outbox: Outbox::new(limits, clock::wall()),
            max_bytes,
            rows: HashMap::new(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            sendable: Notify::new(),
            undelayed: Notify::new(),
            removable: Notify::new(),
            status: StoreStatus::new("the event store"),
            loss_log: LogLimiter::new(NonZeroU32::MIN, LOG_INTERVAL),
        }))
    }

    /// Creates an outbox whose events are in memory only, as while the disk does not work.
    #[cfg(test)]
    pub(crate) fn without_disk() -> Self {
        let outbox = Self::new(u64::MAX);
        outbox.store_failed();
        outbox.status().set_problem("there is none".to_owned());
        outbox
    }

    /// Adds an event, without waiting for the disk.
    #[cfg(test)]
    pub(crate) fn push(&self, event: Event) {
        let Appended { .. } = self.append([event], Vec::new());
    }

    /// Adds events and rows of sessions that are written together, without waiting for the disk.
    /// Logs events that a full outbox drops: at most one line a second, with their number since the
    /// start.
    pub(crate) fn append(&self, events: impl IntoIterator<Item = Event>, rows: Rows) -> Appended {
        let now = clock::wall();
        let mut lost = Vec::new();
        let (request, stats) = {
            let mut state = self.lock();
            for event in events {
                lost.extend(state.outbox.push(event, now));
            }
            state.rows.extend(rows);
            // Within the lock, so that whoever takes the events knows of the request.
            (self.0.status.request(), state.outbox.stats())
        };
        self.log_lost(&lost, &stats);
        self.0.sendable.notify_one();
        Appended {
            request,
            status: self.0.status.clone(),
        }
    }

    /// Whether that many events more would push out no other: each has less than 4 KiB.
    pub(crate) fn has_room_for(&self, events: usize) -> bool {
        let state = self.lock();
        let stats = state.outbox.stats();
        let bytes = u64::try_from(events)
            .unwrap_or(u64::MAX)
            .saturating_mul(MAX_EVENT);
        stats.bytes.saturating_add(bytes) <= state.max_bytes && stats.unsaved + events <= MAX_UNSAVED
    }

    /// Adds events and rows of sessions, and waits until they are on disk; see
    /// [`Appended::durable`].
    #[cfg(test)]
    pub(crate) async fn durable(
        &self,
        events: impl IntoIterator<Item = Event>,
        rows: Rows,
        by: Instant,
    ) -> Result<(), NotStored> {
        self.append(events, rows).durable(by).await
    }

    fn log_lost(&self, lost: &[Event], stats: &OutboxStats) {
        for Event { event_id, .. } in lost.iter().filter(|event| !event.is_update()) {
            if let Some(suppressed) = self.0.loss_log.admit(clock::now().into_std()) {
                let dropped = stats.dropped.connects + stats.dropped.disconnects;
                tracing::error!(
                    %event_id, dropped, suppressed,
                    "event lost: more than outbox.max_bytes are pending, or than memory holds without a disk"
                );
            }
        }
    }

    /// Waits until an event may be sent that could not before; returns at once when that was so
    /// since the last wait.
    pub(crate) async fn sendable(&self) {
        self.0.sendable.notified().await;
    }

    /// See [`Outbox::next`].
    pub(crate) fn next(&self, now: Instant) -> Next {
        self.lock().outbox.next(now.into_std())
    }

    /// See [`Outbox::settle`].
    pub(crate) fn settle(&self, attempt: AttemptId, result: AttemptResult) {
        self.lock().outbox.settle(attempt, result);
        self.0.removable.notify_one();
    }

    /// Ends the delays of deferred events, and a pause of the delivery; see
    /// [`Outbox::clear_delays`].
    pub(crate) fn clear_delays(&self) {
        self.lock().outbox.clear_delays();
        self.0.sendable.notify_one();
        self.0.undelayed.notify_one();
    }

    /// Waits until the delays are cleared; returns at once when they were since the last wait.
    pub(crate) async fn undelayed(&self) {
        self.0.undelayed.notified().await;
    }

    /// See [`Outbox::stats`].
    pub(crate) fn stats(&self) -> OutboxStats {
        self.lock().outbox.stats()
    }

    /// Whether the events are on disk.
    pub(crate) fn status(&self) -> &StoreStatus {
        &self.0.status
    }

    /// The pending events in memory with their times, the oldest first.
    pub(crate) fn queued(&self) -> Vec<QueuedEvent> {
        self.lock().outbox.queued().collect()
    }

    /// The pending events in memory, the oldest first.
    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> Vec<Event> {
        self.lock().outbox.in_memory().cloned().collect()
    }

    /// Waits until something is to be removed from the disk, or to be read.
    pub(crate) async fn removable(&self) {
        self.0.removable.notified().await;
    }

    /// Whether there is room to read more events from the disk.
    pub(crate) fn wants_to_read(&self) -> bool {
        self.lock().outbox.read_from().is_some()
    }

    /// See [`Outbox::known_sequences`].
    pub(crate) fn known_sequences(&self) -> Vec<u64> {
        self.lock().outbox.known_sequences()
    }

    /// See [`Outbox::loaded`].
    pub(crate) fn loaded(&self, events: usize, bytes: u64, last: Option<u64>) {
        self.lock().outbox.loaded(events, bytes, last);
        self.0.sendable.notify_one();
        self.0.removable.notify_one();
    }

    /// See [`Outbox::store_failed`].
    pub(crate) fn store_failed(&self) {
        self.lock().outbox.store_failed();
        self.0.sendable.notify_one();
    }

    /// Takes what is to be written; give it to [`Self::written`] or [`Self::not_written`].
    pub(crate) fn take_work(&self) -> Writing {
        let mut state = self.lock();
        Writing {
            requests: self.0.status.requests(),
            work: state.outbox.take_work(),
            rows: state.rows.drain().collect(),
            read_from: state.outbox.read_from(),
        }
    }

    /// Records what was written, and adds what was read.
    pub(crate) fn written(&self, writing: &Writing, read: Option<Chunk>) {
        let mut state = self.lock();
        state.outbox.written(&writing.work);
        let has_read = read.is_some();
        if let Some(chunk) = read {
            state.outbox.read(chunk);
        }
        let wants_more = state.outbox.read_from().is_some();
        drop(state);
        if has_read {
            self.0.sendable.notify_one();
        }
        if wants_more {
            self.0.removable.notify_one();
        }
    }

    /// Puts back what was not written.
    pub(crate) fn not_written(&self, writing: Writing) {
        let mut state = self.lock();
        state.outbox.not_written(writing.work);
        for (key, row) in writing.rows {
            // A later row of the same session stays.
            state.rows.entry(key).or_insert(row);
        }
        drop(state);
        self.0.sendable.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method of the outbox panics with a change half made.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
