use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use model::{DisconnectReason, Disconnected, Happening, OcservId, SessionUid, Username};
use portal::CheckError;
use tokio::sync::mpsc;

use super::*;

fn event(number: i32) -> Event {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", id, 1);
    let end = Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        duration: None,
    };
    let happening = Happening::Disconnected(end);
    Event {
        event_id: EventId::new(&uid, &happening),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        happening,
    }
}

fn backoff(initial: Duration) -> Backoff {
    Backoff {
        initial,
        max: initial,
        multiplier: 1.0,
    }
}

fn outage() -> DeliverError {
    DeliverError::Call(CheckError::NotConnected("nobody there".to_owned()))
}

fn faulty() -> DeliverError {
    DeliverError::Call(CheckError::Refused {
        code: tonic::Code::InvalidArgument,
        message: String::new(),
    })
}

/// Runs deliveries with a portal that says `answer(event number, attempt)` and collects the numbers it took.
struct Run {
    events: Events,
    taken: mpsc::UnboundedReceiver<i32>,
    connected: watch::Sender<bool>,
    stop: CancellationToken,
    tracker: tokio_util::task::TaskTracker,
}

fn run(max: usize, pause: Duration, answer: fn(i32, u32) -> Result<(), DeliverError>) -> Run {
    let events = Events::new(max);
    let (took, taken) = mpsc::unbounded_channel();
    let (connected, watching) = watch::channel(false);
    let stop = CancellationToken::new();
    let tracker = tokio_util::task::TaskTracker::new();
    let attempts = AtomicU32::new(0);
    let portal = move |event: Event| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let result = answer(event.id.get(), attempt);
        if result.is_ok() {
            took.send(event.id.get()).unwrap();
        }
        async move { result }
    };
    let last_call = Duration::from_secs(5);
    tracker.spawn(
        events
            .clone()
            .deliver(portal, backoff(pause), watching, stop.clone(), last_call),
    );
    tracker.close();
    Run {
        events,
        taken,
        connected,
        stop,
        tracker,
    }
}

#[tokio::test]
async fn what_the_portal_did_not_take_is_offered_again_and_the_order_holds() {
    let mut run = run(10, Duration::from_millis(1), |_, attempt| {
        if attempt % 3 == 0 { Ok(()) } else { Err(outage()) }
    });
    for number in 1..=4 {
        run.events.push(event(number));
    }
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(run.taken.recv().await.unwrap());
    }
    assert_eq!(taken, [1, 2, 3, 4]);
    run.stop.cancel();
    run.tracker.wait().await;
    assert_eq!(
        run.events.counts(),
        EventCounts {
            delivered: 4,
            ..EventCounts::default()
        }
    );
}

#[tokio::test]
async fn an_event_that_the_portal_rejects_for_good_does_not_hold_up_the_others() {
    let mut run = run(10, Duration::from_secs(3600), |number, _| {
        if number == 1 { Err(faulty()) } else { Ok(()) }
    });
    run.events.push(event(1));
    run.events.push(event(2));
    assert_eq!(run.taken.recv().await, Some(2));
    run.stop.cancel();
    run.tracker.wait().await;
    assert_eq!(
        run.events.counts(),
        EventCounts {
            delivered: 1,
            rejected: 1,
            ..EventCounts::default()
        }
    );
}

#[tokio::test]
async fn a_portal_that_is_back_gets_its_events_without_waiting_for_the_pause() {
    let mut run = run(10, Duration::from_secs(3600), |_, attempt| {
        if attempt == 1 { Err(outage()) } else { Ok(()) }
    });
    run.events.push(event(1));
    // The pause has begun once the first attempt failed; saying "connected" again and again cannot miss it.
    let taken = loop {
        tokio::select! {
            taken = run.taken.recv() => break taken,
            () = tokio::time::sleep(Duration::from_millis(5)) => run.connected.send_replace(true),
        };
    };
    assert_eq!(taken, Some(1));
}

#[tokio::test]
async fn what_waits_at_the_end_is_delivered_and_what_cannot_be_is_counted() {
    let mut up = run(10, Duration::from_secs(3600), |_, attempt| {
        if attempt == 1 { Err(outage()) } else { Ok(()) }
    });
    for number in 1..=3 {
        up.events.push(event(number));
    }
    up.stop.cancel();
    up.tracker.wait().await;
    up.taken.close();
    let mut taken = Vec::new();
    while let Some(number) = up.taken.recv().await {
        taken.push(number);
    }
    // The first attempt may have been before the end or at the end; at the end a failure is the last word.
    let left = up.events.counts().pending;
    assert!(
        (taken == [1, 2, 3] && left == 0) || (taken.is_empty() && left == 3),
        "{taken:?}, {left} left"
    );

    let down = run(10, Duration::from_secs(3600), |_, _| Err(outage()));
    down.events.push(event(1));
    down.stop.cancel();
    down.tracker.wait().await;
    assert_eq!(down.events.counts().pending, 1);
}

#[tokio::test]
async fn the_queue_is_bounded_and_counts_what_it_loses() {
    let events = Events::new(3);
    for number in 1..=5 {
        events.push(event(number));
    }
    assert_eq!(
        events.counts(),
        EventCounts {
            pending: 3,
            dropped: 2,
            ..EventCounts::default()
        }
    );
    assert_eq!(
        events.first().map(|event| event.id.get()),
        Some(3),
        "the oldest went first"
    );
}
