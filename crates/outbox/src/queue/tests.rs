use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{DisconnectReason, Disconnected, EventId, EventKind, OcservId, Username};
use proptest::prelude::*;

use super::*;

/// An event of `session`, identified by `number`.
fn event(session: i32, number: i32) -> Event {
    let kind = EventKind::Disconnected(Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", OcservId::new(session).unwrap(), 1);
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

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn outbox(events: &[(i32, i32)]) -> Outbox {
    let mut outbox = Outbox::new(100);
    for (session, number) in events {
        assert_eq!(outbox.push(event(*session, *number)), None);
    }
    outbox
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
    outbox.pending().map(|event| event.id.get()).collect()
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
fn a_rejected_event_does_not_delay_its_session() {
    let mut outbox = outbox(&[(1, 1), (1, 2)]);
    let now = start();
    let first = send(&mut outbox, now);
    outbox.settle(first.id, AttemptResult::Rejected);
    assert_eq!(number_of(&send(&mut outbox, now)), 2);
    let expected = OutboxStats {
        pending: 1,
        rejected: 1,
        ..OutboxStats::default()
    };
    assert_eq!(outbox.stats(), expected);
}

#[test]
fn a_full_outbox_drops_the_oldest_event_that_is_not_in_flight() {
    let mut outbox = Outbox::new(3);
    let now = start();
    for (session, number) in [(1, 1), (1, 2), (2, 3)] {
        assert_eq!(outbox.push(event(session, number)), None);
    }
    let first = send(&mut outbox, now);
    assert_eq!(outbox.push(event(1, 4)), Some(event(1, 2)));
    assert_eq!(numbers(&outbox), [1, 3, 4]);
    let third = send(&mut outbox, now);
    outbox.settle(first.id, AttemptResult::Delivered);
    let fourth = send(&mut outbox, now);
    outbox.settle(fourth.id, AttemptResult::Deferred(now + Duration::from_secs(1)));
    assert_eq!(outbox.push(event(1, 5)), None);
    assert_eq!(
        outbox.push(event(3, 6)),
        Some(event(1, 4)),
        "deferred, not in flight"
    );
    assert_eq!(number_of(&send(&mut outbox, now)), 5, "the next of its session");
    assert_eq!(number_of(&send(&mut outbox, now)), 6);
    assert_eq!(
        outbox.push(event(4, 7)),
        Some(event(4, 7)),
        "all others are in flight"
    );
    outbox.settle(third.id, AttemptResult::Delivered);
    let expected = OutboxStats {
        pending: 2,
        delivered: 2,
        dropped: 3,
        rejected: 0,
    };
    assert_eq!(outbox.stats(), expected);
}

#[derive(Debug, Clone)]
enum Step {
    Push(i32),
    Next,
    /// Settles one of the attempts in flight.
    Settle(usize, u8),
    ClearDelays,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5_i32).prop_map(Step::Push),
        4 => Just(Step::Next),
        3 => (any::<usize>(), 0..4_u8).prop_map(|(index, result)| Step::Settle(index, result)),
        1 => Just(Step::ClearDelays),
    ];
    prop::collection::vec(step, 0..200)
}

/// A reference implementation: a plain list, scanned by every call.
#[derive(Default)]
struct Model(Vec<ModelEvent>);

struct ModelEvent {
    session: i32,
    number: i32,
    is_in_flight: bool,
    not_before: Option<Instant>,
}

impl Model {
    fn next(&mut self, now: Instant) -> Option<i32> {
        let mut sessions = Vec::new();
        for event in &mut self.0 {
            let is_first = !sessions.contains(&event.session);
            sessions.push(event.session);
            if is_first && !event.is_in_flight && event.not_before.is_none_or(|time| time <= now) {
                event.is_in_flight = true;
                return Some(event.number);
            }
        }
        None
    }

    fn push(&mut self, session: i32, number: i32, max: usize) -> Option<i32> {
        self.0.push(ModelEvent {
            session,
            number,
            is_in_flight: false,
            not_before: None,
        });
        let oldest = self.0.iter().position(|event| !event.is_in_flight)?;
        (self.0.len() > max).then(|| self.0.remove(oldest).number)
    }
}

proptest! {
    #[test]
    fn the_index_chooses_and_drops_as_a_scan_of_all_events_does(steps in steps()) {
        const MAX: usize = 8;
        let (mut outbox, mut model) = (Outbox::new(MAX), Model::default());
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut now = start();
        for (number, step) in (1..).zip(steps) {
            now += Duration::from_millis(1);
            match step {
                Step::Push(session) => {
                    let dropped = outbox.push(event(session, number)).map(|event| event.id.get());
                    prop_assert_eq!(dropped, model.push(session, number, MAX));
                }
                Step::Next => {
                    let chosen = match outbox.next(now) {
                        Next::Send(attempt) => {
                            attempts.push(*attempt);
                            attempts.last().map(number_of)
                        }
                        Next::Later(_) | Next::Idle => None,
                    };
                    prop_assert_eq!(chosen, model.next(now));
                }
                Step::Settle(_, _) if attempts.is_empty() => {}
                Step::Settle(index, result) => {
                    let attempt = attempts.swap_remove(index % attempts.len());
                    let at = model.0.iter().position(|event| event.number == attempt.event.id.get());
                    let at = at.expect("an event in flight is pending");
                    let not_before = now + Duration::from_millis(5);
                    let result = match result {
                        0 => AttemptResult::Delivered,
                        1 => AttemptResult::Rejected,
                        2 => AttemptResult::Deferred(not_before),
                        _ => AttemptResult::Unreachable,
                    };
                    match result {
                        AttemptResult::Delivered | AttemptResult::Rejected => {
                            model.0.remove(at);
                        }
                        AttemptResult::Deferred(time) => {
                            model.0[at].is_in_flight = false;
                            model.0[at].not_before = Some(time);
                        }
                        AttemptResult::Unreachable => model.0[at].is_in_flight = false,
                    }
                    outbox.settle(attempt.id, result);
                }
                Step::ClearDelays => {
                    outbox.clear_delays();
                    model.0.iter_mut().for_each(|event| event.not_before = None);
                }
            }
            let expected: Vec<i32> = model.0.iter().map(|event| event.number).collect();
            prop_assert_eq!(numbers(&outbox), expected);
        }
    }
}
