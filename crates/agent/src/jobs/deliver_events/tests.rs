use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{DisconnectReason, Disconnected, OcservId, SessionUid, Username};
use portal::CheckError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::*;
use crate::operations::drain::{Drain, DrainState};
use crate::operations::notifications::Notifications;

/// Longest time that a test waits for an event.
const BOUND: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// An event of `session`, identified by `number`.
fn event_of(session: i32, number: i32) -> Event {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", OcservId::new(session).unwrap(), 1);
    let kind = EventKind::Disconnected(Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    Event {
        event_id: EventId::new(&SessionUid::new("a1", id, 2), &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    }
}

/// The only event of a session.
fn event(number: i32) -> Event {
    event_of(number, number)
}

fn outage() -> ReportError {
    ReportError::Call(CheckError::NotConnected("no route".to_owned()))
}

fn rejection() -> ReportError {
    ReportError::Call(CheckError::Refused {
        code: tonic::Code::InvalidArgument,
        message: String::new(),
    })
}

/// What the portal's library sends for an exception in a handler.
fn failure() -> ReportError {
    ReportError::Call(CheckError::Refused {
        code: tonic::Code::Unknown,
        message: "Exception calling application".to_owned(),
    })
}

fn deferral() -> ReportError {
    ReportError::NotAcknowledged("not yet".to_owned())
}

/// An attempt that waits for the portal's response, which the test gives.
struct SentEvent {
    number: i32,
    response: oneshot::Sender<Result<(), ReportError>>,
}

impl SentEvent {
    fn respond(self, response: Result<(), ReportError>) {
        self.response
            .send(response)
            .expect("the delivery waits for the response");
    }
}

/// A running delivery.
struct Harness {
    outbox: SharedOutbox,
    sent: mpsc::UnboundedReceiver<SentEvent>,
    connected: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Starts a delivery whose delays are all `delay`.
fn start(delay: Duration) -> Harness {
    let outbox = SharedOutbox::without_disk();
    let (sender, sent) = mpsc::unbounded_channel();
    let (connected, watching) = watch::channel(false);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let send: SendEvent = Box::new(move |event| {
        let (response, received) = oneshot::channel();
        let number = event.id.get();
        sender.send(SentEvent { number, response }).unwrap();
        Box::pin(async move { received.await.unwrap_or_else(|_| Err(outage())) })
    });
    let delivery = EventDelivery {
        outbox: outbox.clone(),
        send,
        backoff: Backoff {
            initial: delay,
            max: delay,
            multiplier: 1.0,
        },
        connected: watching,
        log: DeliveryLog::default(),
    };
    tasks.spawn(delivery.run(stop.clone()));
    tasks.close();
    Harness {
        outbox,
        sent,
        connected,
        stop,
        tasks,
    }
}

impl Harness {
    async fn next_sent(&mut self) -> SentEvent {
        let sent = tokio::time::timeout(BOUND, self.sent.recv()).await;
        sent.expect("an event is sent").expect("the delivery runs")
    }

    /// Gives `response` to the next `count` sent events and returns their numbers.
    async fn respond(&mut self, count: usize, response: fn() -> Result<(), ReportError>) -> Vec<i32> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let sent = self.next_sent().await;
            numbers.push(sent.number);
            sent.respond(response());
        }
        numbers
    }

    /// Ends the delivery; returns how many events are pending, and how many were delivered.
    async fn shut_down(self) -> (usize, u64) {
        self.stop.cancel();
        drop(self.sent);
        self.tasks.wait().await;
        let stats = self.outbox.stats();
        (stats.pending, stats.delivered)
    }
}

#[tokio::test]
async fn events_of_several_sessions_are_in_flight_at_once_and_those_of_one_in_order() {
    let mut delivery = start(NEVER);
    for number in 1..=3 {
        delivery.outbox.push(event_of(1, number));
    }
    delivery.outbox.push(event_of(2, 4));
    let (first, other) = (delivery.next_sent().await, delivery.next_sent().await);
    assert_eq!((first.number, other.number), (1, 4));
    first.respond(Ok(()));
    let second = delivery.next_sent().await;
    assert_eq!(second.number, 2, "the next event of this session");
    second.respond(Ok(()));
    assert_eq!(delivery.respond(1, || Ok(())).await, [3]);
    other.respond(Ok(()));
    assert_eq!(delivery.shut_down().await, (0, 4));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_one_event_is_sent_first_and_none_is_lost() {
    let mut delivery = start(Duration::from_secs(1));
    for number in 1..=20 {
        delivery.outbox.push(event(number));
    }
    delivery.respond(16, || Err(outage())).await;
    for _ in 0..3 {
        let failed_at = clock::now();
        let first = delivery.next_sent().await;
        assert!(clock::now() > failed_at, "after a delay");
        assert!(delivery.sent.try_recv().is_err(), "no other event is sent");
        assert_eq!(first.number, 1, "in order");
        first.respond(Err(outage()));
    }
    let mut delivered = delivery.respond(20, || Ok(())).await;
    delivered.sort_unstable();
    assert_eq!(delivered, (1..=20).collect::<Vec<_>>());
    assert_eq!(delivery.shut_down().await, (0, 20));
}

#[tokio::test(start_paused = true)]
async fn a_deferred_event_delays_its_own_session_only() {
    let mut delivery = start(Duration::from_secs(1));
    delivery.outbox.push(event_of(1, 1));
    delivery.outbox.push(event_of(1, 2));
    let deferred = delivery.next_sent().await;
    assert_eq!(deferred.number, 1);
    deferred.respond(Err(deferral()));
    for number in 3..=40 {
        delivery.outbox.push(event(number));
    }
    assert_eq!(
        delivery.respond(38, || Ok(())).await,
        (3..=40).collect::<Vec<_>>()
    );
    let deferred_at = clock::now();
    assert_eq!(delivery.respond(2, || Ok(())).await, [1, 2], "retried in order");
    assert!(clock::now() > deferred_at, "after a delay");
    assert_eq!(delivery.shut_down().await, (0, 40));
}

#[tokio::test]
async fn a_rejected_event_does_not_block_its_session() {
    let mut delivery = start(NEVER);
    delivery.outbox.push(event_of(1, 1));
    delivery.outbox.push(event_of(1, 2));
    delivery.respond(1, || Err(rejection())).await;
    assert_eq!(delivery.respond(1, || Ok(())).await, [2]);
    let outbox = delivery.outbox.clone();
    assert_eq!(delivery.shut_down().await, (0, 1));
    let rejected = outbox.take_work().work.rejected;
    assert_eq!(rejected.len(), 1, "for the dead letters");
}

#[tokio::test]
async fn a_new_connection_ends_the_pause() {
    let mut delivery = start(NEVER);
    delivery.outbox.push(event(1));
    // The portal reconnects before the attempt fails.
    let sent = delivery.next_sent().await;
    delivery.connected.send_replace(true);
    sent.respond(Err(outage()));
    delivery.respond(1, || Err(outage())).await;
    // The portal reconnects during the pause.
    delivery.connected.send_replace(false);
    delivery.connected.send_replace(true);
    assert_eq!(delivery.respond(1, || Ok(())).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_pause_and_the_delays_and_waits_for_the_delivery() {
    let mut delivery = start(NEVER);
    let outbox = delivery.outbox.clone();
    let drain = Drain::new(DrainState::default(), outbox, None, Notifications::default());
    for (number, failure) in [(1, outage()), (2, deferral())] {
        delivery.outbox.push(event(number));
        let sent = delivery.next_sent().await;
        sent.respond(Err(failure));
        // Paused time advances once the failure is settled.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (summary, sent) = tokio::join!(drain.start(), delivery.respond(1, || Ok(())));
        assert_eq!((sent, summary.pending), (vec![number], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_each_pending_event_once_and_counts_the_undelivered() {
    let mut up = start(NEVER);
    up.outbox.push(event(1));
    up.respond(1, || Err(deferral())).await;
    // Paused time advances once the deferral is settled.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 2..=40 {
        up.outbox.push(event(number));
    }
    up.stop.cancel();
    let mut delivered = up.respond(40, || Ok(())).await;
    delivered.sort_unstable();
    assert_eq!(delivered, (1..=40).collect::<Vec<_>>());
    assert_eq!(up.shut_down().await, (0, 40));

    let mut deferring = start(NEVER);
    deferring.outbox.push(event(1));
    deferring.outbox.push(event(2));
    deferring.stop.cancel();
    assert_eq!(
        deferring.respond(2, || Err(deferral())).await,
        [1, 2],
        "once each"
    );
    assert_eq!(deferring.shut_down().await, (2, 0));

    let down = start(NEVER);
    down.outbox.push(event(1));
    assert_eq!(down.shut_down().await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_refuses_every_event_is_called_less_and_less_and_at_full_rate_after_a_success() {
    for refusal in [deferral, failure] {
        let mut delivery = start(Duration::from_secs(1));
        for number in 1..=1_000 {
            delivery.outbox.push(event(number));
        }
        let end = clock::now() + Duration::from_mins(1);
        let mut calls = 0;
        while let Ok(sent) = timeout_at(end, delivery.next_sent()).await {
            sent.respond(Err(refusal()));
            calls += 1;
        }
        assert!((30..400).contains(&calls), "{calls} calls in a minute");
        delivery.respond(1_000, || Ok(())).await;
        assert_eq!(delivery.shut_down().await, (0, 1_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_about_one_event_delays_its_own_session_only() {
    let mut delivery = start(Duration::from_secs(1));
    delivery.outbox.push(event(1));
    delivery.respond(1, || Err(failure())).await;
    let failed_at = clock::now();
    for number in 2..=40 {
        delivery.outbox.push(event(number));
    }
    assert_eq!(
        delivery.respond(39, || Ok(())).await,
        (2..=40).collect::<Vec<_>>()
    );
    assert_eq!(delivery.respond(1, || Ok(())).await, [1]);
    assert!(clock::now() > failed_at, "after a delay");
}

#[tokio::test(start_paused = true)]
async fn a_few_deferred_events_do_not_delay_later_ones_and_a_shutdown_sends_all() {
    let mut delivery = start(NEVER);
    for number in 1..=15 {
        delivery.outbox.push(event(number));
    }
    delivery.respond(15, || Err(deferral())).await;
    delivery.outbox.push(event(301));
    assert_eq!(delivery.respond(1, || Ok(())).await, [301]);
    for number in 16..=300 {
        delivery.outbox.push(event(number));
    }
    delivery.stop.cancel();
    delivery.respond(300, || Err(deferral())).await;
    assert_eq!(delivery.shut_down().await, (300, 1));
}
