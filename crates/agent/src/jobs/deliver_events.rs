//! Delivers events to the portal until it acknowledges them.
//!
//! The portal identifies an event by its `event_id`, so an event is retried without limit, unless
//! the portal rejects it as invalid. After an outage delivery pauses, until a delay is over, the
//! portal is connected again or the agent is drained, and then sends a single event first. An event
//! that the portal defers has a delay of its own, which only its own session waits for; a portal
//! that defers one event after the other is treated as in an outage. A shutdown sends each pending
//! event once more, without delays.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ocserv_agent_model::{Event, EventId, EventKind};
use outbox::{Attempt, AttemptId, AttemptResult, Next};
use portal::{CheckError, Portal, ReportError};
use resilience::{Backoff, LogLimiter};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::validate_sessions::DisconnectDemand;
use crate::clock;
use crate::metrics::Metrics;
use crate::operations::shared_outbox::SharedOutbox;

/// Most attempts in flight while the portal is reachable.
const MAX_IN_FLIGHT: usize = 16;
/// This many deferrals without an acknowledgement in between pause the delivery.
const MAX_DEFERRALS: u32 = 16;
/// Time between two log lines of one kind about events.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time that a shutdown sends pending events.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends one event to the portal.
pub(crate) type SendEvent = Box<dyn Fn(Event) -> BoxFuture<'static, Result<(), ReportError>> + Send + Sync>;

/// Delivers the outbox' events.
pub(crate) struct EventDelivery {
    pub(crate) outbox: SharedOutbox,
    pub(crate) send: SendEvent,
    /// The delays after outages and deferrals.
    pub(crate) backoff: Backoff,
    /// Whether the portal is connected.
    pub(crate) connected: watch::Receiver<bool>,
    pub(crate) log: DeliveryLog,
}

/// A completed attempt.
struct Completed {
    id: AttemptId,
    event_id: EventId,
    deferrals: u32,
    result: Result<(), ReportError>,
}

type InFlight = FuturesUnordered<BoxFuture<'static, Completed>>;

#[derive(Default)]
struct DeliveryState {
    /// Consecutive failures to reach the portal; those of attempts in flight together count as one.
    outages: u32,
    /// Consecutive deferrals; while delivery pauses, those of attempts in flight do not count.
    deferrals: u32,
    /// Set by the first failure; nothing is sent before this time.
    paused_until: Option<Instant>,
}

impl DeliveryState {
    /// How many attempts may be in flight.
    fn max_in_flight(&self) -> usize {
        if self.outages > 0 || self.deferrals >= MAX_DEFERRALS {
            1
        } else {
            MAX_IN_FLIGHT
        }
    }
}

/// Limits the log lines about events that are lost or deferred.
pub(crate) struct DeliveryLog {
    rejected: LogLimiter,
    deferred: LogLimiter,
}

impl Default for DeliveryLog {
    fn default() -> Self {
        let limiter = || LogLimiter::new(NonZeroU32::MIN, LOG_INTERVAL);
        Self {
            rejected: limiter(),
            deferred: limiter(),
        }
    }
}

impl EventDelivery {
    /// Delivers events until `stop`, and then flushes the pending ones for at most 3 s.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_flight = InFlight::new();
        let mut state = DeliveryState::default();
        while !stop.is_cancelled() {
            if in_flight.is_empty() {
                if let Some(until) = state.paused_until.take() {
                    self.pause(until, &stop).await;
                    continue;
                }
                // From here on a new connection ends a pause.
                self.connected.mark_unchanged();
            }
            let not_before = self.send_ready(&mut in_flight, &state, clock::now());
            tokio::select! {
                Some(completed) = in_flight.next() => {
                    self.settle(completed, &mut state);
                    self.pause_after_deferrals(&mut state);
                }
                () = self.outbox.sendable() => {}
                () = until(not_before) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(in_flight).await;
    }

    /// Sends the events that may be sent at `now`; returns when the next deferred one may be, if
    /// the limit on attempts in flight is not reached.
    fn send_ready(&self, in_flight: &mut InFlight, state: &DeliveryState, now: Instant) -> Option<Instant> {
        while in_flight.len() < state.max_in_flight() && state.paused_until.is_none() {
            match self.outbox.next(now) {
                Next::Send(attempt) => in_flight.push(self.attempt(*attempt)),
                Next::Later(time) => return Some(Instant::from_std(time)),
                Next::Idle => break,
            }
        }
        None
    }

    fn attempt(&self, attempt: Attempt) -> BoxFuture<'static, Completed> {
        let Attempt { id, event, deferrals } = attempt;
        let event_id = event.event_id.clone();
        let result = (self.send)(event);
        Box::pin(async move {
            Completed {
                id,
                event_id,
                deferrals,
                result: result.await,
            }
        })
    }

    fn settle(&self, completed: Completed, state: &mut DeliveryState) {
        let Completed {
            id,
            event_id,
            deferrals,
            result,
        } = completed;
        let deferrals = deferrals.saturating_add(1);
        let attempt_result = self.attempt_result(&result, deferrals);
        self.outbox.settle(id, attempt_result.clone());
        if attempt_result != AttemptResult::Unreachable && state.outages > 0 {
            state.outages = 0;
            let pending = self.outbox.stats().pending;
            tracing::info!(pending, "event delivery recovered");
        }
        match attempt_result {
            AttemptResult::Delivered | AttemptResult::Rejected { .. } => state.deferrals = 0,
            AttemptResult::Deferred(_) if state.paused_until.is_none() => {
                state.deferrals = state.deferrals.saturating_add(1);
            }
            AttemptResult::Deferred(_) | AttemptResult::Unreachable => {}
        }
        let Err(error) = result else { return };
        let now = clock::now().into_std();
        match attempt_result {
            AttemptResult::Delivered => {}
            AttemptResult::Rejected { .. } => {
                if let Some(suppressed) = self.log.rejected.admit(now) {
                    tracing::error!(%event_id, %error, suppressed, "the portal rejected an event: it is in the dead letters");
                }
            }
            AttemptResult::Deferred(_) if deferrals == 1 => {
                if let Some(suppressed) = self.log.deferred.admit(now) {
                    tracing::warn!(%event_id, %error, suppressed, "portal deferred an event: retrying until it is acknowledged");
                }
            }
            AttemptResult::Deferred(_) => {
                tracing::debug!(%event_id, %error, deferrals, "portal deferred an event again");
            }
            AttemptResult::Unreachable => self.record_outage(&error, state),
        }
    }

    /// Classifies the result of a call for the outbox.
    fn attempt_result(&self, result: &Result<(), ReportError>, deferrals: u32) -> AttemptResult {
        match result {
            Ok(()) => AttemptResult::Delivered,
            // A retry would block every later event of its session for ever.
            Err(error) if error.rejects_event() => AttemptResult::Rejected {
                problem: error.to_string(),
                retry_at: self.delay_until(deferrals),
            },
            // The portal received it. What fails may be this event alone.
            Err(ReportError::NotAcknowledged(_) | ReportError::Call(CheckError::Refused { .. })) => {
                AttemptResult::Deferred(self.delay_until(deferrals))
            }
            Err(_) => AttemptResult::Unreachable,
        }
    }

    fn delay_until(&self, deferrals: u32) -> std::time::Instant {
        let delay = self.backoff.delay(deferrals, fastrand::f64());
        (clock::now() + delay).into_std()
    }

    /// Pauses delivery to a portal that defers one event after the other.
    fn pause_after_deferrals(&self, state: &mut DeliveryState) {
        if state.deferrals < MAX_DEFERRALS || state.paused_until.is_some() {
            return;
        }
        let pauses = state.deferrals - MAX_DEFERRALS + 1;
        let (deferrals, pending) = (state.deferrals, self.outbox.stats().pending);
        let delay = self.backoff.delay(pauses, fastrand::f64());
        state.paused_until = Some(clock::now() + delay);
        if pauses == 1 {
            tracing::warn!(
                pending,
                deferrals,
                "portal defers every event: sending fewer until it acknowledges one"
            );
        } else {
            tracing::debug!(pending, deferrals, ?delay, "portal defers every event still");
        }
    }

    fn record_outage(&self, error: &ReportError, state: &mut DeliveryState) {
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

    /// Waits until `until`, a new connection, a drain or the stop, whichever is first. A drain
    /// while attempts were in flight counts too: they may have failed since.
    async fn pause(&mut self, until: Instant, stop: &CancellationToken) {
        let reconnected = async {
            while self.connected.changed().await.is_ok() {
                if *self.connected.borrow_and_update() {
                    return;
                }
            }
            // The sender is dropped, so no connection is reported any more.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sleep_until(until) => {}
            () = reconnected => {}
            () = self.outbox.undelayed() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Completes the attempts in flight and sends each pending event once.
    async fn flush(&self, mut in_flight: InFlight) {
        self.outbox.clear_delays();
        let start = clock::now();
        let mut state = DeliveryState::default();
        loop {
            self.send_ready(&mut in_flight, &state, start);
            // An attempt in flight is not cancelled: the portal may have received the event
            // already.
            match timeout_at(start + FLUSH_TIMEOUT, in_flight.next()).await {
                Ok(Some(completed)) => self.settle(completed, &mut state),
                Ok(None) if self.is_read_within(start + FLUSH_TIMEOUT, &state).await => {}
                Ok(None) | Err(_) => break,
            }
        }
        match self.outbox.stats().pending {
            0 => tracing::info!("all events are delivered"),
            pending => tracing::info!(
                pending,
                "not all events are delivered: the rest is left for the next start"
            ),
        }
    }

    /// Waits for events that are being read from the disk, unless the portal fails.
    async fn is_read_within(&self, limit: Instant, state: &DeliveryState) -> bool {
        self.outbox.wants_to_read()
            && state.paused_until.is_none()
            && timeout_at(limit, self.outbox.sendable()).await.is_ok()
    }
}

/// Reports events to `portal` and counts each call; passes what the portal demands to `demands`.
pub(crate) fn report_to(
    portal: Portal,
    metrics: Metrics,
    demands: mpsc::Sender<DisconnectDemand>,
) -> SendEvent {
    Box::new(move |event| {
        let (portal, metrics, demands) = (portal.clone(), metrics.clone(), demands.clone());
        Box::pin(async move {
            let start = clock::now();
            let result = portal.report_event(&event).await;
            let method = match event.kind {
                EventKind::Connected(_) => "ReportConnect",
                EventKind::Disconnected(_) => "ReportDisconnect",
                EventKind::Updated(_) => "ReportSessionUpdate",
            };
            let status = if result.is_ok() { "answered" } else { "outage" };
            metrics.portal_called(method, status, clock::now() - start);
            let demand = result?;
            if let Some(reason) = demand {
                // A full queue drops it: the answer to the next update repeats it.
                let _queued = demands.try_send(DisconnectDemand {
                    update: event,
                    reason,
                });
            }
            Ok(())
        })
    })
}

/// Waits until `time`, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
