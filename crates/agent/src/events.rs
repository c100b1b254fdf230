//! Events on their way to the portal: a bounded queue in memory and the one task that delivers it in order.
//!
//! Delivered means that the portal said so. An event that it did not take is offered again, for as long as it takes;
//! the portal knows it by its `event_id`. What the bound pushes out is counted and logged: it is lost.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Event, EventId};
use portal::DeliverError;
use resilience::Backoff;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub struct Events(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    max: usize,
    state: Mutex<State>,
    /// Wakes the one who delivers.
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Event>,
    dropped: u64,
    delivered: u64,
    rejected: u64,
}

/// How many events are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Waiting now.
    pub pending: usize,
    /// Taken by the portal since the start.
    pub delivered: u64,
    /// Lost since the start, because more than the bound waited.
    pub dropped: u64,
    /// Lost since the start, because the portal finds fault with the event itself and will never take it.
    pub rejected: u64,
}

impl Events {
    /// A queue for at most `max` events.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Queue {
            max,
            state: Mutex::default(),
            pushed: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event at the end. When the queue is full the oldest one is lost for it.
    pub fn push(&self, event: Event) {
        let lost = {
            let mut state = self.state();
            let lost = if state.pending.len() >= self.0.max {
                state.pending.pop_front()
            } else {
                None
            };
            state.dropped += u64::from(lost.is_some());
            state.pending.push_back(event);
            lost.map(|event| (event.event_id, state.dropped))
        };
        if let Some((event_id, dropped)) = lost {
            tracing::error!(%event_id, dropped, "event lost: events.max_pending are waiting for the portal");
        }
        self.0.pushed.notify_one();
    }

    /// How many are where.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        let state = self.state();
        EventCounts {
            pending: state.pending.len(),
            delivered: state.delivered,
            dropped: state.dropped,
            rejected: state.rejected,
        }
    }

    /// What waits now, in order.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<Event> {
        self.state().pending.iter().cloned().collect()
    }

    fn first(&self) -> Option<Event> {
        self.state().pending.front().cloned()
    }

    /// Offers one event. What the portal takes, or will never take, is out of the queue afterwards.
    async fn offer<F>(&self, event: Event, portal: impl Fn(Event) -> F) -> Result<(), DeliverError>
    where
        F: Future<Output = Result<(), DeliverError>>,
    {
        let event_id = event.event_id.clone();
        match portal(event).await {
            Ok(()) => self.done(&event_id).delivered += 1,
            // Everything behind it would wait for ever.
            Err(error) if error.is_about_the_event() => {
                self.done(&event_id).rejected += 1;
                tracing::error!(%event_id, %error, "event lost: the portal rejects it");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes the first event out, if it is still this one: the bound may have pushed it out meanwhile.
    fn done(&self, event_id: &EventId) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if state
            .pending
            .front()
            .is_some_and(|event| event.event_id == *event_id)
        {
            state.pending.pop_front();
        }
        state
    }

    /// Offers the events to `portal`, one after the other, until `stop`. A failure is followed by a pause of `backoff`,
    /// which ends early when `connected` changes to true. After `stop` what is left is offered once more, without
    /// pauses, until one fails or the time that `last_call` gives is over.
    pub async fn deliver<F>(
        self,
        portal: impl Fn(Event) -> F,
        backoff: Backoff,
        mut connected: watch::Receiver<bool>,
        stop: CancellationToken,
        last_call: Duration,
    ) where
        F: Future<Output = Result<(), DeliverError>>,
    {
        let mut failures: u32 = 0;
        while !stop.is_cancelled() {
            let Some(event) = self.first() else {
                tokio::select! {
                    () = self.0.pushed.notified() => continue,
                    () = stop.cancelled() => break,
                }
            };
            // Not broken off by `stop`: the portal would have it and we would not know. A call has its own timeout.
            match self.offer(event, &portal).await {
                Ok(()) if failures > 0 => {
                    tracing::info!(pending = self.counts().pending, "the portal takes events again");
                    failures = 0;
                }
                Ok(()) => {}
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let pending = self.counts().pending;
                    let delay = backoff.delay(failures, fastrand::f64());
                    if failures == 1 {
                        tracing::warn!(%error, pending, "the portal did not take an event; trying until it does");
                    } else {
                        tracing::debug!(%error, pending, failures, ?delay, "the portal did not take an event");
                    }
                    pause(clock::now() + delay, &mut connected, &stop).await;
                }
            }
        }
        self.flush(portal, clock::now() + last_call).await;
    }

    async fn flush<F>(&self, portal: impl Fn(Event) -> F, by: Instant)
    where
        F: Future<Output = Result<(), DeliverError>>,
    {
        while let Some(event) = self.first() {
            match timeout_at(by, self.offer(event, &portal)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the portal did not take an event at the end");
                    break;
                }
                Err(_) => break,
            }
        }
        match self.counts().pending {
            0 => tracing::info!("all events are delivered"),
            left => tracing::error!(
                left,
                "events lost: the agent stops and the portal has not taken them"
            ),
        }
    }
}

/// Waits until `until`, or until the portal is connected anew, or until the end.
async fn pause(until: Instant, connected: &mut watch::Receiver<bool>, stop: &CancellationToken) {
    connected.mark_unchanged();
    let anew = async {
        loop {
            match connected.changed().await {
                Ok(()) if *connected.borrow_and_update() => return,
                Ok(()) => {}
                // Nobody tells any more.
                Err(_) => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = sleep_until(until) => {}
        () = anew => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests;
