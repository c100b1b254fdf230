//! Offering the events to the portal, until it has them.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ocserv_agent_model::{Event, EventId};
use portal::ReportError;
use resilience::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Events;
use super::queue::{Next, Taken};
use crate::clock;
use crate::rush::Rush;

/// How many events are on their way at once, while the portal takes them.
const WINDOW: usize = 16;
/// How long events let logins go first, and then go themselves, while logins keep coming.
const TURN: Duration = Duration::from_secs(2);

/// How events are delivered.
pub(crate) struct Delivery {
    /// The pauses after failures.
    pub(crate) backoff: Backoff,
    /// Whether the portal is connected.
    pub(crate) connected: watch::Receiver<bool>,
    /// Who goes first.
    pub(crate) rush: Rush,
    /// How long what is left at the end is offered.
    pub(crate) last_call: Duration,
}

/// An offer that is under way, with its event's name.
type Offer = Pin<Box<dyn Future<Output = (EventId, Result<(), ReportError>)> + Send>>;
type Offers = FuturesUnordered<Offer>;

/// Where the delivery stands.
#[derive(Default)]
struct Course {
    /// Rounds of offers in a row that the portal did not answer.
    outages: u32,
    /// An offer of this round failed: nothing goes before this time.
    paused: Option<Instant>,
    /// Since when logins have been going first.
    held_up: Option<Instant>,
    /// Events go until then, whoever comes.
    turn: Option<Instant>,
}

/// What there is to wait for, besides the offers under way.
struct Wait {
    until: Option<Instant>,
    /// Whether an event that is pushed could go at once.
    pushed: bool,
}

impl Events {
    /// Offers the events to `portal` until `stop`. After an outage there is a pause, which ends early when the portal is
    /// connected anew, and then one event goes ahead. An event that the portal refuses is put off for such a pause,
    /// and what is behind it goes on, but for the same session. After `stop` what is left is offered once more, without
    /// pauses, until the portal fails or the last call is over.
    pub(crate) async fn deliver<F>(
        self,
        portal: impl Fn(Event) -> F,
        delivery: Delivery,
        stop: CancellationToken,
    ) where
        F: Future<Output = Result<(), ReportError>> + Send + 'static,
    {
        let Delivery {
            backoff,
            mut connected,
            rush,
            last_call,
        } = delivery;
        let mut offers = Offers::new();
        let mut course = Course::default();
        while !stop.is_cancelled() {
            if offers.is_empty() {
                if let Some(until) = course.paused.take() {
                    pause(until, &mut connected, &stop).await;
                    continue;
                }
                // From here on a new connection is news.
                connected.mark_unchanged();
            }
            let wait = self.offer_some(&mut offers, &portal, &mut course, &rush);
            tokio::select! {
                Some((event_id, taken)) = offers.next() => self.settle(&event_id, taken, &mut course, backoff),
                () = self.0.pushed.notified(), if wait.pushed => {}
                () = until(wait.until) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(offers, portal, backoff, clock::now() + last_call)
            .await;
    }

    /// Offers all that may go now.
    fn offer_some<F>(
        &self,
        offers: &mut Offers,
        portal: impl Fn(Event) -> F,
        course: &mut Course,
        rush: &Rush,
    ) -> Wait
    where
        F: Future<Output = Result<(), ReportError>> + Send + 'static,
    {
        let window = if course.outages > 0 { 1 } else { WINDOW };
        let mut wait = Wait {
            until: None,
            pushed: false,
        };
        while offers.len() < window && course.paused.is_none() {
            let now = clock::now();
            if self.counts().pending > offers.len() {
                wait.until = course.logins_go_first(rush, now);
                if wait.until.is_some() {
                    break;
                }
            }
            match self.queue().next(now) {
                Next::Offer(event) => offers.push(offer(*event, &portal)),
                Next::Later(time) => {
                    wait = Wait {
                        until: Some(time),
                        pushed: true,
                    };
                    break;
                }
                Next::Nothing => {
                    wait.pushed = true;
                    break;
                }
            }
        }
        wait
    }

    /// Notes how an offer ended.
    fn settle(
        &self,
        event_id: &EventId,
        taken: Result<(), ReportError>,
        course: &mut Course,
        backoff: Backoff,
    ) {
        let error = match taken {
            Ok(()) => {
                self.queue().settle(event_id, Taken::Delivered);
                return self.reached(course);
            }
            Err(error) => error,
        };
        match &error {
            // Everything of this session would wait for ever.
            error if error.rejects_event() => {
                self.queue().settle(event_id, Taken::Rejected);
                tracing::error!(%event_id, %error, "event lost: the portal rejects it");
                self.reached(course);
            }
            ReportError::NotAcknowledged(_) => {
                let mut queue = self.queue();
                let refusals = queue.refusals(event_id).saturating_add(1);
                let delay = backoff.delay(refusals, fastrand::f64());
                queue.settle(event_id, Taken::Refused(clock::now() + delay));
                drop(queue);
                if refusals == 1 {
                    tracing::warn!(%event_id, %error, "the portal refused an event; trying until it takes it");
                } else {
                    tracing::debug!(%event_id, %error, refusals, ?delay, "the portal refused an event");
                }
                self.reached(course);
            }
            error => {
                self.queue().settle(event_id, Taken::Not);
                self.not_reached(error, course, backoff);
            }
        }
    }

    fn reached(&self, course: &mut Course) {
        if course.outages > 0 {
            course.outages = 0;
            tracing::info!(pending = self.counts().pending, "the portal takes events again");
        }
    }

    fn not_reached(&self, error: &ReportError, course: &mut Course, backoff: Backoff) {
        if course.paused.is_some() {
            return;
        }
        course.outages = course.outages.saturating_add(1);
        let (outages, pending) = (course.outages, self.counts().pending);
        let delay = backoff.delay(outages, fastrand::f64());
        course.paused = Some(clock::now() + delay);
        if outages == 1 {
            tracing::warn!(%error, pending, "the portal did not take an event; trying until it does");
        } else {
            tracing::debug!(%error, pending, outages, ?delay, "the portal did not take an event");
        }
    }

    /// Waits for the offers under way, and offers what is left, each event once.
    async fn flush<F>(&self, mut offers: Offers, portal: impl Fn(Event) -> F, backoff: Backoff, by: Instant)
    where
        F: Future<Output = Result<(), ReportError>> + Send + 'static,
    {
        self.queue().hurry();
        let begin = clock::now();
        let mut course = Course::default();
        loop {
            while offers.len() < WINDOW
                && course.paused.is_none()
                && let Next::Offer(event) = self.queue().next(begin)
            {
                offers.push(offer(*event, &portal));
            }
            // Those under way are not broken off: the portal would have them and we would not know.
            match timeout_at(by, offers.next()).await {
                Ok(Some((event_id, taken))) => self.settle(&event_id, taken, &mut course, backoff),
                Ok(None) | Err(_) => break,
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

impl Course {
    /// Until when logins go first, if they do. As long as they keep coming, they and the events take turns.
    fn logins_go_first(&mut self, rush: &Rush, now: Instant) -> Option<Instant> {
        let until = rush
            .until(now)
            .filter(|_| self.turn.is_none_or(|turn| turn <= now));
        if until.is_none() {
            self.held_up = None;
            return None;
        }
        let since = *self.held_up.get_or_insert(now);
        if now < since + TURN {
            return until;
        }
        self.held_up = None;
        self.turn = Some(now + TURN);
        None
    }
}

fn offer<F>(event: Event, portal: impl Fn(Event) -> F) -> Offer
where
    F: Future<Output = Result<(), ReportError>> + Send + 'static,
{
    let event_id = event.event_id.clone();
    let taken = portal(event);
    Box::pin(async move { (event_id, taken.await) })
}

/// Waits until `moment`, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until `until`, or until the portal is connected anew, or until the end.
async fn pause(until: Instant, connected: &mut watch::Receiver<bool>, stop: &CancellationToken) {
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
