use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{
    Connected, DisconnectReason, Disconnected, EventId, OcservId, SessionStatus, Updated, Username,
};

use super::*;

mod model;

const LIMITS: Limits = Limits {
    max_bytes: u64::MAX,
    window: 100,
    max_unsaved: 100,
};

/// An event of `session`, identified by `number`.
fn event(session: i32, number: i32) -> Event {
    event_of(
        session,
        number,
        EventKind::Disconnected(Disconnected {
            at: UNIX_EPOCH,
            reason: DisconnectReason::Unspecified,
            usage: None,
            is_sampled: false,
            duration: None,
        }),
    )
}

fn connect(session: i32, number: i32) -> Event {
    event_of(
        session,
        number,
        EventKind::Connected(Connected {
            at: UNIX_EPOCH,
            client_ip: None,
            vpn_ip: None,
            device: String::new(),
            group: None,
        }),
    )
}

fn update(session: i32, number: i32) -> Event {
    let kind = EventKind::Updated(Updated {
        at: UNIX_EPOCH,
        usage: None,
        duration: Duration::ZERO,
        status: SessionStatus::Active,
    });
    event_of(session, number, kind)
}

fn event_of(session: i32, number: i32, kind: EventKind) -> Event {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", OcservId::new(session).unwrap(), 1);
    Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn empty(limits: Limits) -> Outbox {
    let mut outbox = Outbox::new(limits, UNIX_EPOCH);
    outbox.loaded(0, 0, None);
    outbox
}

fn outbox(events: &[(i32, i32)]) -> Outbox {
    let mut outbox = empty(LIMITS);
    for (session, number) in events {
        assert_eq!(push(&mut outbox, event(*session, *number)), [0; 0]);
    }
    outbox
}

/// Adds an event; returns the numbers of those that are lost.
fn push(outbox: &mut Outbox, event: Event) -> Vec<i32> {
    let lost = outbox.push(event, UNIX_EPOCH);
    lost.iter().map(|event| event.id.get()).collect()
}

fn send(outbox: &mut Outbox, now: Instant) -> Attempt {
    match outbox.next(now) {
        Next::Send(attempt) => *attempt,
        other => panic!("{other:?}"),
    }
}

fn number_of(attempt: &Attempt) -> i32 {
    attempt.event.id.get()
}

fn numbers(outbox: &Outbox) -> Vec<i32> {
    outbox.in_memory().map(|event| event.id.get()).collect()
}

/// Takes the work and says that it is done; returns how many events it writes and removes.
fn write(outbox: &mut Outbox) -> (usize, usize) {
    let mut work = outbox.take_work();
    for rejected in &mut work.rejected {
        rejected.is_in_file = true;
    }
    outbox.written(&work);
    (work.events.len(), work.removed().count())
}

#[test]
fn events_of_several_sessions_are_in_flight_at_once_and_those_of_one_are_not() {
    let mut outbox = outbox(&[(1, 1), (1, 2), (2, 3)]);
    let now = start();
    let (first, other) = (send(&mut outbox, now), send(&mut outbox, now));
    assert_eq!((number_of(&first), number_of(&other)), (1, 3));
    assert_eq!(outbox.next(now), Next::Idle);
    outbox.settle(other.id, AttemptResult::Delivered);
    assert_eq!(outbox.next(now), Next::Idle, "the first is still in flight");
    outbox.settle(first.id, AttemptResult::Delivered);
    assert_eq!(number_of(&send(&mut outbox, now)), 2);
}

#[test]
fn an_unreachable_portal_does_not_change_the_order() {
    let mut outbox = outbox(&[(1, 1), (2, 2), (3, 3)]);
    let now = start();
    let attempts = [send(&mut outbox, now), send(&mut outbox, now)];
    for attempt in attempts {
        outbox.settle(attempt.id, AttemptResult::Unreachable);
    }
    assert_eq!([1, 2, 3].map(|_| number_of(&send(&mut outbox, now))), [1, 2, 3]);
}

#[test]
fn a_deferred_event_delays_only_its_own_session() {
    let mut outbox = outbox(&[(1, 1), (1, 2), (2, 3)]);
    let now = start();
    let later = now + Duration::from_secs(1);
    let first = send(&mut outbox, now);
    assert_eq!(first.deferrals, 0);
    outbox.settle(first.id, AttemptResult::Deferred(later));
    assert_eq!(number_of(&send(&mut outbox, now)), 3);
    assert_eq!(outbox.next(now), Next::Later(later));
    let again = send(&mut outbox, later);
    assert_eq!((number_of(&again), again.deferrals), (1, 1));
    outbox.settle(again.id, AttemptResult::Deferred(later + Duration::from_secs(1)));
    outbox.clear_delays();
    assert_eq!(number_of(&send(&mut outbox, later)), 1);
}

#[test]
fn a_rejected_event_does_not_delay_its_session_and_is_removed_once_it_is_a_dead_letter() {
    let mut outbox = outbox(&[(1, 1), (1, 2)]);
    assert_eq!(write(&mut outbox), (2, 0));
    let now = start();
    let first = send(&mut outbox, now);
    let problem = "no such user".to_owned();
    let retry_at = now;
    outbox.settle(first.id, AttemptResult::Rejected { problem, retry_at });
    assert_eq!(number_of(&send(&mut outbox, now)), 2);
    let work = outbox.take_work();
    assert_eq!((work.rejected.len(), work.settled.len()), (1, 0));
    assert_eq!(work.rejected[0].problem, "no such user");
    outbox.not_written(work);
    assert_eq!(write(&mut outbox), (0, 1));
    let stats = outbox.stats();
    assert_eq!((stats.pending, stats.rejected), (1, 1));
}

#[test]
fn a_rejected_event_waits_while_its_file_cannot_be_written_and_delays_no_other() {
    let mut outbox = outbox(&[(1, 1)]);
    assert_eq!(write(&mut outbox), (1, 0));
    let now = start();
    let first = send(&mut outbox, now);
    let (problem, retry_at) = (String::new(), now);
    outbox.settle(first.id, AttemptResult::Rejected { problem, retry_at });
    assert_eq!(push(&mut outbox, event(2, 2)), [0; 0]);
    let work = outbox.take_work();
    assert_eq!((work.events.len(), work.removed().count()), (1, 0));
    outbox.written(&work);
    assert_eq!(outbox.stats().unsaved, 1, "the rejected one");
    assert_eq!(write(&mut outbox), (0, 1));
    assert_eq!(outbox.stats().unsaved, 0);
}

#[test]
fn a_delivered_event_is_removed_from_the_disk_only_if_it_may_be_there() {
    let mut outbox = outbox(&[(1, 1), (2, 2), (3, 3)]);
    let now = start();
    let first = send(&mut outbox, now);
    outbox.settle(first.id, AttemptResult::Delivered);
    let work = outbox.take_work();
    assert_eq!((work.events.len(), work.settled.len()), (2, 0));
    let second = send(&mut outbox, now);
    outbox.settle(second.id, AttemptResult::Delivered);
    outbox.written(&work);
    assert_eq!(write(&mut outbox), (0, 1));
    let third = send(&mut outbox, now);
    outbox.settle(third.id, AttemptResult::Delivered);
    assert_eq!(write(&mut outbox), (0, 1));
    assert_eq!((outbox.stats().pending, outbox.stats().bytes), (0, 0));
}

#[test]
fn an_update_is_replaced_in_its_place_and_removed_by_the_disconnect() {
    let mut outbox = empty(LIMITS);
    for event in [connect(1, 1), update(1, 2), update(2, 3), update(1, 4)] {
        assert_eq!(push(&mut outbox, event), [0; 0]);
    }
    assert_eq!(numbers(&outbox), [1, 4, 3]);
    let now = start();
    let (first, other) = (send(&mut outbox, now), send(&mut outbox, now));
    assert_eq!((number_of(&first), number_of(&other)), (1, 3));
    assert_eq!(push(&mut outbox, update(2, 5)), [0; 0], "3 is in flight");
    assert_eq!(numbers(&outbox), [1, 4, 3, 5]);
    assert_eq!(push(&mut outbox, event(1, 6)), [0; 0]);
    assert_eq!(push(&mut outbox, event(2, 7)), [0; 0]);
    assert_eq!(numbers(&outbox), [1, 3, 6, 7]);
    assert_eq!(write(&mut outbox).0, 3, "updates are not written");
    assert_eq!(outbox.stats().dropped, Dropped::default());
}

#[test]
fn a_full_outbox_drops_the_oldest_updates_and_then_the_oldest_events_that_are_not_in_flight() {
    let mut outbox = empty(LIMITS);
    for event in [connect(1, 1), connect(2, 2), update(1, 3), update(2, 4)] {
        assert_eq!(push(&mut outbox, event), [0; 0]);
    }
    assert_eq!(number_of(&send(&mut outbox, start())), 1);
    // An update takes more bytes than a connect.
    for (number, lost) in [(5, 3), (6, 4), (7, 2), (8, 5)] {
        outbox.limits.max_bytes = outbox.stats().bytes;
        assert_eq!(
            push(&mut outbox, connect(number, number)),
            [lost],
            "1 is in flight"
        );
    }
    let dropped = Dropped {
        connects: 2,
        updates: 2,
        ..Dropped::default()
    };
    assert_eq!(outbox.stats().dropped, dropped);
}

#[test]
fn without_a_disk_the_events_in_memory_are_bounded_and_sent() {
    let limits = Limits {
        max_unsaved: 3,
        window: 2,
        ..LIMITS
    };
    let mut outbox = Outbox::new(limits, UNIX_EPOCH);
    let now = start();
    assert_eq!(push(&mut outbox, event(1, 1)), [0; 0]);
    assert_eq!(outbox.next(now), Next::Idle, "those on disk come first");
    outbox.store_failed();
    for number in 2..=3 {
        assert_eq!(push(&mut outbox, event(number, number)), [0; 0]);
    }
    assert_eq!(push(&mut outbox, event(4, 4)), [1]);
    assert_eq!([2, 3, 4].map(|_| number_of(&send(&mut outbox, now))), [2, 3, 4]);
}

#[test]
fn only_the_window_is_in_memory_and_the_backlog_is_read_in_order() {
    let limits = Limits { window: 4, ..LIMITS };
    let mut outbox = empty(limits);
    let mut disk = Vec::new();
    for number in 1..=20 {
        assert_eq!(push(&mut outbox, event(number, number)), [0; 0]);
        disk.extend(outbox.take_work().events);
        let work = Work {
            events: disk.last().cloned().into_iter().collect(),
            ..Work::default()
        };
        outbox.written(&work);
    }
    let bytes = outbox.stats().bytes;
    assert_eq!((outbox.in_memory().count(), outbox.stats().pending), (4, 20));
    let now = start();
    for number in 1..=20 {
        if let Some(from) = outbox.read_from() {
            outbox.read(model::read(&disk, from, 2));
        }
        let attempt = send(&mut outbox, now);
        assert_eq!(number_of(&attempt), number);
        outbox.settle(attempt.id, AttemptResult::Delivered);
        assert!(outbox.in_memory().count() <= 4);
    }
    assert!(bytes > 0);
    assert_eq!((outbox.stats().pending, outbox.stats().bytes), (0, 0));
    assert_eq!(push(&mut outbox, event(21, 21)), [0; 0]);
    assert_eq!(number_of(&send(&mut outbox, now)), 21);
}
