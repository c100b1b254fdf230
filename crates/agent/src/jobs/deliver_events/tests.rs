use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{DisconnectReason, Disconnected, OcservId, SessionUid, Username};
use outbox::OutboxStats;
use portal::CheckError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::*;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// An event of this session; `number` tells it apart.
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

/// The only event of a session.
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
    ReportError::Call(CheckError::NotConnected("no route".to_owned()))
}

fn faulty() -> ReportError {
    ReportError::Call(CheckError::Refused {
        code: tonic::Code::InvalidArgument,
        message: String::new(),
    })
}

fn deferral() -> ReportError {
    ReportError::NotAcknowledged("not yet".to_owned())
}

/// An event that was sent; the test answers in place of the portal.
struct Sent {
    number: i32,
    answer: oneshot::Sender<Result<(), ReportError>>,
}

impl Sent {
    fn answer(self, answer: Result<(), ReportError>) {
        self.answer
            .send(answer)
            .expect("the delivery waits for the answer");
    }
}

/// A delivery under way.
struct Run {
    outbox: SharedOutbox,
    sent: mpsc::UnboundedReceiver<Sent>,
    connected: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn run(max: usize, pause: Duration) -> Run {
    let outbox = SharedOutbox::new(max);
    let (sender, sent) = mpsc::unbounded_channel();
    let (connected, watching) = watch::channel(false);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let send: SendEvent = Box::new(move |event| {
        let (answer, answered) = oneshot::channel();
        let number = event.id.get();
        sender.send(Sent { number, answer }).unwrap();
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(outage())) })
    });
    let delivery = EventDelivery {
        outbox: outbox.clone(),
        send,
        backoff: backoff(pause),
        connected: watching,
    };
    tasks.spawn(delivery.run(stop.clone()));
    tasks.close();
    Run {
        outbox,
        sent,
        connected,
        stop,
        tasks,
    }
}

impl Run {
    async fn next_sent(&mut self) -> Sent {
        let sent = tokio::time::timeout(LONG, self.sent.recv()).await;
        sent.expect("an event is sent").expect("the delivery runs")
    }

    /// The numbers of the next sent, each answered with `answer`.
    async fn answer(&mut self, count: usize, answer: fn() -> Result<(), ReportError>) -> Vec<i32> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let sent = self.next_sent().await;
            numbers.push(sent.number);
            sent.answer(answer());
        }
        numbers
    }

    /// The numbers of the pending events.
    fn pending(&self) -> Vec<i32> {
        self.outbox.pending().iter().map(|event| event.id.get()).collect()
    }

    async fn end(self) -> OutboxStats {
        self.stop.cancel();
        drop(self.sent);
        self.tasks.wait().await;
        self.outbox.stats()
    }
}

fn stats(pending: usize, delivered: u64) -> OutboxStats {
    OutboxStats {
        pending,
        delivered,
        ..OutboxStats::default()
    }
}

#[tokio::test]
async fn events_of_several_sessions_are_sent_at_once_and_those_of_one_in_order() {
    let mut run = run(100, NEVER);
    for number in 1..=3 {
        run.outbox.push(event_of(1, number));
    }
    run.outbox.push(event_of(2, 4));
    let (first, other) = (run.next_sent().await, run.next_sent().await);
    assert_eq!((first.number, other.number), (1, 4));
    first.answer(Ok(()));
    let second = run.next_sent().await;
    assert_eq!(second.number, 2, "the next one of this session, and no other");
    second.answer(Ok(()));
    assert_eq!(run.answer(1, || Ok(())).await, [3]);
    other.answer(Ok(()));
    assert_eq!(run.end().await, stats(0, 4));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_one_event_goes_ahead_and_none_is_lost() {
    let mut run = run(100, Duration::from_secs(1));
    for number in 1..=20 {
        run.outbox.push(event(number));
    }
    run.answer(16, || Err(outage())).await;
    for _ in 0..3 {
        let start = clock::now();
        let one = run.next_sent().await;
        assert!(clock::now() > start, "there was a pause");
        assert!(run.sent.try_recv().is_err(), "it goes alone");
        assert_eq!(one.number, 1, "the order holds");
        one.answer(Err(outage()));
    }
    let mut taken = run.answer(20, || Ok(())).await;
    taken.sort_unstable();
    assert_eq!(taken, (1..=20).collect::<Vec<_>>());
    assert_eq!(run.end().await, stats(0, 20));
}

#[tokio::test(start_paused = true)]
async fn a_deferred_event_holds_up_its_own_session_alone() {
    let mut run = run(100, Duration::from_secs(1));
    run.outbox.push(event_of(1, 1));
    run.outbox.push(event_of(1, 2));
    let deferred = run.next_sent().await;
    assert_eq!(deferred.number, 1);
    deferred.answer(Err(deferral()));
    for number in 3..=40 {
        run.outbox.push(event(number));
    }
    assert_eq!(run.answer(38, || Ok(())).await, (3..=40).collect::<Vec<_>>());
    let start = clock::now();
    assert_eq!(
        run.answer(2, || Ok(())).await,
        [1, 2],
        "it is sent again, in order"
    );
    assert!(clock::now() > start, "after a pause");
    assert_eq!(run.end().await, stats(0, 40));
}

#[tokio::test]
async fn an_event_that_the_portal_rejects_for_good_does_not_hold_up_its_session() {
    let mut run = run(10, NEVER);
    run.outbox.push(event_of(1, 1));
    run.outbox.push(event_of(1, 2));
    run.answer(1, || Err(faulty())).await;
    assert_eq!(run.answer(1, || Ok(())).await, [2]);
    let expected = OutboxStats {
        rejected: 1,
        ..stats(0, 1)
    };
    assert_eq!(run.end().await, expected);
}

#[tokio::test]
async fn a_reconnected_portal_gets_its_events_before_the_pause_is_over() {
    let mut run = run(10, NEVER);
    run.outbox.push(event(1));
    // The portal reconnects before the attempt fails.
    let sent = run.next_sent().await;
    run.connected.send_replace(true);
    sent.answer(Err(outage()));
    run.answer(1, || Err(outage())).await;
    // The portal reconnects during the pause.
    run.connected.send_replace(false);
    run.connected.send_replace(true);
    assert_eq!(run.answer(1, || Ok(())).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_each_event_that_is_left_once_and_counts_the_undelivered() {
    let mut up = run(100, NEVER);
    up.outbox.push(event(1));
    up.answer(1, || Err(deferral())).await;
    // Time goes on once the deferral is settled.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 2..=40 {
        up.outbox.push(event(number));
    }
    up.stop.cancel();
    let mut taken = up.answer(40, || Ok(())).await;
    taken.sort_unstable();
    assert_eq!(taken, (1..=40).collect::<Vec<_>>());
    assert_eq!(up.end().await, stats(0, 40));

    let mut deferring = run(10, NEVER);
    deferring.outbox.push(event(1));
    deferring.outbox.push(event(2));
    deferring.stop.cancel();
    assert_eq!(deferring.answer(2, || Err(deferral())).await, [1, 2], "once each");
    assert_eq!(deferring.end().await, stats(2, 0));

    let down = run(10, NEVER);
    down.outbox.push(event(1));
    assert_eq!(down.end().await, stats(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_drops_the_oldest_event_not_under_way_and_counts_each_once() {
    let mut run = run(3, NEVER);
    run.outbox.push(event(1));
    run.answer(1, || Err(deferral())).await;
    // Time goes on once the deferral is settled.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 2..=3 {
        run.outbox.push(event(number));
    }
    let (two, three) = (run.next_sent().await, run.next_sent().await);
    run.outbox.push(event(4));
    assert_eq!(run.pending(), [2, 3, 4], "1 was deferred");
    let four = run.next_sent().await;
    run.outbox.push(event_of(2, 5));
    assert_eq!(run.pending(), [2, 3, 4], "all were under way: the new one");
    for sent in [two, three, four] {
        sent.answer(Ok(()));
    }
    let expected = OutboxStats {
        dropped: 2,
        ..stats(0, 3)
    };
    assert_eq!(run.end().await, expected);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_deferred_events_do_not_hold_up_those_behind_them() {
    let mut run = run(2_000, NEVER);
    for number in 1..=300 {
        run.outbox.push(event(number));
    }
    run.answer(300, || Err(deferral())).await;
    run.outbox.push(event(301));
    assert_eq!(run.answer(1, || Ok(())).await, [301]);
    run.stop.cancel();
    run.answer(300, || Err(deferral())).await;
    assert_eq!(run.end().await, stats(300, 1));
}
