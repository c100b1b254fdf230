//! Delivers events to the portal until it has them.
//!
//! The portal knows an event by its `event_id`, so an event is sent again for as long as it takes.
//! After an outage there is a pause, which ends early when the portal is connected again, and then
//! one event goes ahead. An event that the portal defers gets a pause of its own, and only its own
//! session waits for it. At a stop each event that is left is sent once more, without pauses.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ocserv_agent_model::{Event, EventId, EventKind};
use outbox::{Attempt, AttemptId, AttemptResult, Next};
use portal::{Portal, ReportError};
use resilience::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::metrics::Metrics;
use crate::operations::shared_outbox::SharedOutbox;

/// How many events are under way at once while the portal is reachable.
const MAX_UNDER_WAY: usize = 16;
/// How long a stop sends the events that are left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends one event to the portal.
pub(crate) type SendEvent = Box<dyn Fn(Event) -> BoxFuture<'static, Result<(), ReportError>> + Send + Sync>;

/// The job.
pub(crate) struct EventDelivery {
    pub(crate) outbox: SharedOutbox,
    pub(crate) send: SendEvent,
    /// The pauses after failures.
    pub(crate) backoff: Backoff,
    /// Whether the portal is connected.
    pub(crate) connected: watch::Receiver<bool>,
}

/// An attempt that ended.
struct Ended {
    id: AttemptId,
    event_id: EventId,
    deferrals: u32,
    answer: Result<(), ReportError>,
}

type UnderWay = FuturesUnordered<BoxFuture<'static, Ended>>;

#[derive(Default)]
struct DeliveryState {
    /// Failures in a row to reach the portal; those of attempts that were under way together count
    /// as one.
    outages: u32,
    /// Set by the first failure; nothing is sent before this time.
    paused_until: Option<Instant>,
}

impl EventDelivery {
    /// Delivers events until `stop`, and then what is left, for 3 s at most.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut under_way = UnderWay::new();
        let mut state = DeliveryState::default();
        while !stop.is_cancelled() {
            if under_way.is_empty() {
                if let Some(until) = state.paused_until.take() {
                    self.pause(until, &stop).await;
                    continue;
                }
                // From here on a new connection ends a pause.
                self.connected.mark_unchanged();
            }
            let later = self.send_ready(&mut under_way, &state, clock::now());
            tokio::select! {
                Some(ended) = under_way.next() => self.settle(ended, &mut state),
                () = self.outbox.pushed() => {}
                () = until(later) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(under_way).await;
    }

    /// Sends all that may be sent at `now`; returns when the next deferred event may be, if there
    /// is room for it.
    fn send_ready(&self, under_way: &mut UnderWay, state: &DeliveryState, now: Instant) -> Option<Instant> {
        let room = if state.outages > 0 { 1 } else { MAX_UNDER_WAY };
        while under_way.len() < room && state.paused_until.is_none() {
            match self.outbox.next(now) {
                Next::Send(attempt) => under_way.push(self.attempt(*attempt)),
                Next::Later(time) => return Some(Instant::from_std(time)),
                Next::Idle => break,
            }
        }
        None
    }

    fn attempt(&self, attempt: Attempt) -> BoxFuture<'static, Ended> {
        let Attempt { id, event, deferrals } = attempt;
        let event_id = event.event_id.clone();
        let answer = (self.send)(event);
        Box::pin(async move {
            Ended {
                id,
                event_id,
                deferrals,
                answer: answer.await,
            }
        })
    }

    fn settle(&self, ended: Ended, state: &mut DeliveryState) {
        let Ended {
            id,
            event_id,
            deferrals,
            answer,
        } = ended;
        let deferrals = deferrals.saturating_add(1);
        let result = self.result_of(&answer, deferrals);
        self.outbox.settle(id, result);
        if result != AttemptResult::Unreachable && state.outages > 0 {
            state.outages = 0;
            let pending = self.outbox.stats().pending;
            tracing::info!(pending, "event delivery recovered");
        }
        let Err(error) = answer else { return };
        match result {
            AttemptResult::Delivered => {}
            AttemptResult::Rejected => {
                tracing::error!(%event_id, %error, "event lost: the portal rejected it");
            }
            AttemptResult::Deferred(_) if deferrals == 1 => {
                tracing::warn!(%event_id, %error, "portal deferred an event: retrying until it takes it");
            }
            AttemptResult::Deferred(_) => {
                tracing::debug!(%event_id, %error, deferrals, "portal deferred an event again");
            }
            AttemptResult::Unreachable => self.unreachable(&error, state),
        }
    }

    /// What the portal's answer means for the event.
    fn result_of(&self, answer: &Result<(), ReportError>, deferrals: u32) -> AttemptResult {
        match answer {
            Ok(()) => AttemptResult::Delivered,
            // Else every later event of its session would wait for ever.
            Err(error) if error.rejects_event() => AttemptResult::Rejected,
            Err(ReportError::NotAcknowledged(_)) => {
                let delay = self.backoff.delay(deferrals, fastrand::f64());
                AttemptResult::Deferred((clock::now() + delay).into_std())
            }
            Err(_) => AttemptResult::Unreachable,
        }
    }

    fn unreachable(&self, error: &ReportError, state: &mut DeliveryState) {
        if state.paused_until.is_some() {
            return;
        }
        state.outages = state.outages.saturating_add(1);
        let (outages, pending) = (state.outages, self.outbox.stats().pending);
        let delay = self.backoff.delay(outages, fastrand::f64());
        state.paused_until = Some(clock::now() + delay);
        if outages == 1 {
            tracing::warn!(%error, pending, "event delivery failed: retrying until the portal is reachable");
        } else {
            tracing::debug!(%error, pending, outages, ?delay, "event delivery failed again");
        }
    }

    /// Waits until `until`, or until the portal is connected again, or until the stop.
    async fn pause(&mut self, until: Instant, stop: &CancellationToken) {
        let reconnected = async {
            while self.connected.changed().await.is_ok() {
                if *self.connected.borrow_and_update() {
                    return;
                }
            }
            // Nobody reports the connection any more.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sleep_until(until) => {}
            () = reconnected => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits for the attempts under way, and sends each event that is left once.
    async fn flush(&self, mut under_way: UnderWay) {
        self.outbox.clear_delays();
        let start = clock::now();
        let mut state = DeliveryState::default();
        loop {
            self.send_ready(&mut under_way, &state, start);
            // An attempt under way is not cancelled: the portal might have the event without our
            // knowing.
            match timeout_at(start + FLUSH_TIMEOUT, under_way.next()).await {
                Ok(Some(ended)) => self.settle(ended, &mut state),
                Ok(None) | Err(_) => break,
            }
        }
        match self.outbox.stats().pending {
            0 => tracing::info!("all events are delivered"),
            left => tracing::error!(left, "events lost: not delivered before the stop"),
        }
    }
}

/// Reports events to `portal`, and counts each call.
pub(crate) fn report_to(portal: Portal, metrics: Metrics) -> SendEvent {
    Box::new(move |event| {
        let (portal, metrics) = (portal.clone(), metrics.clone());
        Box::pin(async move {
            let start = clock::now();
            let answer = portal.report_event(&event).await;
            let method = match event.kind {
                EventKind::Connected(_) => "ReportConnect",
                EventKind::Disconnected(_) => "ReportDisconnect",
            };
            let status = if answer.is_ok() { "answered" } else { "outage" };
            metrics.portal_called(method, status, clock::now() - start);
            answer
        })
    })
}

/// Waits until `moment`, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
