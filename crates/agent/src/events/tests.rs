use std::pin::Pin;
use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{
    DisconnectReason, Disconnected, EventId, EventKind, OcservId, SessionUid, Username,
};
use portal::{CheckError, ReportError};
use resilience::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock;
use crate::rush::Rush;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// Something that happened to the session of this number; `number` is its own.
fn event_of(session: i32, number: i32) -> Event {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", OcservId::new(session).unwrap(), 1);
    let end = Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        duration: None,
    };
    let kind = EventKind::Disconnected(end);
    Event {
        event_id: EventId::new(&SessionUid::new("a1", id, 2), &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        kind,
    }
}

/// The only thing that happened to a session.
fn event(number: i32) -> Event {
    event_of(number, number)
}

fn backoff(initial: Duration) -> Backoff {
    Backoff {
        initial,
        max: initial,
        multiplier: 1.0,
    }
}

fn outage() -> ReportError {
    ReportError::Call(CheckError::NotConnected("nobody there".to_owned()))
}

fn faulty() -> ReportError {
    ReportError::Call(CheckError::Refused {
        code: tonic::Code::InvalidArgument,
        message: String::new(),
    })
}

fn refusal() -> ReportError {
    ReportError::NotAcknowledged("not yet".to_owned())
}

/// An event that is offered; the portal's answer to it is this test's.
struct Offer {
    number: i32,
    answer: oneshot::Sender<Result<(), ReportError>>,
}

impl Offer {
    fn answer(self, answer: Result<(), ReportError>) {
        self.answer.send(answer).expect("somebody waits for the answer");
    }
}

/// A delivery under way.
struct Run {
    events: Events,
    offers: mpsc::UnboundedReceiver<Offer>,
    connected: watch::Sender<bool>,
    rush: Rush,
    stop: CancellationToken,
    tracker: tokio_util::task::TaskTracker,
}

fn run(max: usize, pause: Duration) -> Run {
    let events = Events::new(max);
    let (offering, offers) = mpsc::unbounded_channel();
    let (connected, watching) = watch::channel(false);
    let (rush, stop) = (Rush::default(), CancellationToken::new());
    let tracker = tokio_util::task::TaskTracker::new();
    let portal = move |event: Event| -> Pin<Box<dyn Future<Output = Result<(), ReportError>> + Send>> {
        let (answer, answered) = oneshot::channel();
        let number = event.id.get();
        offering.send(Offer { number, answer }).unwrap();
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(outage())) })
    };
    let delivery = Delivery {
        backoff: backoff(pause),
        connected: watching,
        rush: rush.clone(),
        last_call: LONG,
    };
    tracker.spawn(events.clone().deliver(portal, delivery, stop.clone()));
    tracker.close();
    Run {
        events,
        offers,
        connected,
        rush,
        stop,
        tracker,
    }
}

impl Run {
    async fn offer(&mut self) -> Offer {
        let offer = tokio::time::timeout(LONG, self.offers.recv()).await;
        offer.expect("an offer comes").expect("the delivery runs")
    }

    /// The numbers of the next offers, each answered with `answer`.
    async fn answer(&mut self, count: usize, answer: fn() -> Result<(), ReportError>) -> Vec<i32> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let offer = self.offer().await;
            numbers.push(offer.number);
            offer.answer(answer());
        }
        numbers
    }

    /// The numbers of those that wait or are on their way.
    fn waiting(&self) -> Vec<i32> {
        self.events.waiting().iter().map(|event| event.id.get()).collect()
    }

    async fn end(self) -> EventCounts {
        self.stop.cancel();
        drop(self.offers);
        self.tracker.wait().await;
        self.events.counts()
    }
}

fn counts(pending: usize, delivered: u64) -> EventCounts {
    EventCounts {
        pending,
        delivered,
        ..EventCounts::default()
    }
}

#[tokio::test]
async fn events_of_several_sessions_go_together_and_those_of_one_after_the_other() {
    let mut run = run(100, NEVER);
    for number in 1..=3 {
        run.events.push(event_of(1, number));
    }
    run.events.push(event_of(2, 4));
    let (first, other) = (run.offer().await, run.offer().await);
    assert_eq!((first.number, other.number), (1, 4));
    first.answer(Ok(()));
    let second = run.offer().await;
    assert_eq!(second.number, 2, "the next one of this session, and nothing else");
    second.answer(Ok(()));
    assert_eq!(run.answer(1, || Ok(())).await, [3]);
    other.answer(Ok(()));
    assert_eq!(run.end().await, counts(0, 4));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_one_event_goes_ahead_and_nothing_is_lost() {
    let mut run = run(100, Duration::from_secs(1));
    for number in 1..=20 {
        run.events.push(event(number));
    }
    run.answer(16, || Err(outage())).await;
    for _ in 0..3 {
        let begin = clock::now();
        let one = run.offer().await;
        assert!(clock::now() > begin, "there was a pause");
        assert!(run.offers.try_recv().is_err(), "it goes alone");
        assert_eq!(one.number, 1, "the order holds");
        one.answer(Err(outage()));
    }
    let mut taken = run.answer(20, || Ok(())).await;
    taken.sort_unstable();
    assert_eq!(taken, (1..=20).collect::<Vec<_>>());
    assert_eq!(run.end().await, counts(0, 20));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_again_and_again_holds_up_its_own_session_alone() {
    let mut run = run(100, Duration::from_secs(1));
    run.events.push(event_of(1, 1));
    run.events.push(event_of(1, 2));
    let refused = run.offer().await;
    assert_eq!(refused.number, 1);
    refused.answer(Err(refusal()));
    for number in 3..=40 {
        run.events.push(event(number));
    }
    assert_eq!(run.answer(38, || Ok(())).await, (3..=40).collect::<Vec<_>>());
    let begin = clock::now();
    assert_eq!(
        run.answer(2, || Ok(())).await,
        [1, 2],
        "it is offered again, in order"
    );
    assert!(clock::now() > begin, "after a pause");
    assert_eq!(run.end().await, counts(0, 40));
}

#[tokio::test]
async fn an_event_that_the_portal_rejects_for_good_does_not_hold_up_its_session() {
    let mut run = run(10, NEVER);
    run.events.push(event_of(1, 1));
    run.events.push(event_of(1, 2));
    run.answer(1, || Err(faulty())).await;
    assert_eq!(run.answer(1, || Ok(())).await, [2]);
    let expected = EventCounts {
        rejected: 1,
        ..counts(0, 1)
    };
    assert_eq!(run.end().await, expected);
}

#[tokio::test]
async fn a_portal_that_is_back_gets_its_events_without_waiting_for_the_pause() {
    let mut run = run(10, NEVER);
    run.events.push(event(1));
    // It is back before the call that its absence broke has failed.
    let offer = run.offer().await;
    run.connected.send_replace(true);
    offer.answer(Err(outage()));
    run.answer(1, || Err(outage())).await;
    // It is back while the delivery pauses.
    run.connected.send_replace(false);
    run.connected.send_replace(true);
    assert_eq!(run.answer(1, || Ok(())).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn logins_go_first_but_not_for_ever() {
    let mut run = run(10, NEVER);
    let begin = clock::now();
    run.rush.login(begin);
    run.events.push(event(1));
    let first = loop {
        tokio::select! {
            offer = run.offer() => break offer,
            () = tokio::time::sleep(Duration::from_millis(1)) => run.rush.login(clock::now()),
        }
    };
    let waited = clock::now() - begin;
    assert!(
        waited >= Duration::from_secs(1) && waited <= Duration::from_secs(3),
        "an event waited {waited:?} for logins that kept coming"
    );
    first.answer(Ok(()));

    // Without logins nothing waits.
    tokio::time::sleep(LONG).await;
    let begin = clock::now();
    run.events.push(event(2));
    run.answer(1, || Ok(())).await;
    assert!(clock::now() - begin < Duration::from_millis(10));
    // After a single login hardly anything.
    run.rush.login(clock::now());
    run.events.push(event(3));
    run.answer(1, || Ok(())).await;
    assert!(clock::now() - begin < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_offered_once_more_and_what_is_not_taken_is_counted() {
    let mut up = run(100, NEVER);
    up.events.push(event(1));
    up.answer(1, || Err(refusal())).await;
    // Time goes on once the refusal is noted.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 2..=40 {
        up.events.push(event(number));
    }
    up.stop.cancel();
    let mut taken = up.answer(40, || Ok(())).await;
    taken.sort_unstable();
    assert_eq!(taken, (1..=40).collect::<Vec<_>>());
    assert_eq!(up.end().await, counts(0, 40));

    let mut refusing = run(10, NEVER);
    refusing.events.push(event(1));
    refusing.events.push(event(2));
    refusing.stop.cancel();
    assert_eq!(refusing.answer(2, || Err(refusal())).await, [1, 2], "once each");
    assert_eq!(refusing.end().await, counts(2, 0));

    let down = run(10, NEVER);
    down.events.push(event(1));
    assert_eq!(down.end().await, counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_bound_pushes_out_the_oldest_that_is_not_on_its_way_and_what_is_lost_is_counted_once() {
    let mut run = run(3, NEVER);
    run.events.push(event(1));
    run.answer(1, || Err(refusal())).await;
    // Time goes on once the refusal is noted.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 2..=3 {
        run.events.push(event(number));
    }
    let (two, three) = (run.offer().await, run.offer().await);
    run.events.push(event(4));
    assert_eq!(run.waiting(), [2, 3, 4], "1 was waiting for its next try");
    let four = run.offer().await;
    run.events.push(event_of(2, 5));
    assert_eq!(run.waiting(), [2, 3, 4], "all were on their way: the new one");
    for offer in [two, three, four] {
        offer.answer(Ok(()));
    }
    let expected = EventCounts {
        dropped: 2,
        ..counts(0, 3)
    };
    assert_eq!(run.end().await, expected);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_refused_events_do_not_hold_up_those_behind_them() {
    let mut run = run(2_000, NEVER);
    for number in 1..=300 {
        run.events.push(event(number));
    }
    run.answer(300, || Err(refusal())).await;
    run.events.push(event(301));
    assert_eq!(run.answer(1, || Ok(())).await, [301]);
    run.stop.cancel();
    run.answer(300, || Err(refusal())).await;
    assert_eq!(run.end().await, counts(300, 1));
}
