//! Any sequence of pushes, attempts, commits, failed commits, reads and crashes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::Chunk;

#[derive(Debug, Clone)]
enum Step {
    Push(i32),
    Next,
    /// Settles one of the attempts in flight.
    Settle(usize, u8),
    /// A commit; whether it is on disk, and whether the writer learns that.
    Write {
        is_stored: bool,
        succeeds: bool,
    },
    /// A commit and a read; an attempt may be settled meanwhile.
    Read(Option<(usize, u8)>),
    /// The agent is killed and started.
    Crash,
    ClearDelays,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5_i32).prop_map(Step::Push),
        6 => Just(Step::Next),
        5 => (any::<usize>(), 0..4_u8).prop_map(|(index, result)| Step::Settle(index, result)),
        4 => Just(Step::Write { is_stored: true, succeeds: true }),
        1 => any::<bool>().prop_map(|is_stored| Step::Write { is_stored, succeeds: false }),
        4 => prop::option::of((any::<usize>(), 0..4_u8)).prop_map(Step::Read),
        1 => Just(Step::Crash),
        1 => Just(Step::ClearDelays),
    ];
    prop::collection::vec(step, 0..300)
}

/// Reads as the store does.
pub(super) fn read(disk: &[NewEvent], from: u64, limit: usize) -> Chunk {
    let mut chunk = Chunk::default();
    for NewEvent { sequence, bytes } in disk.iter().filter(|event| event.sequence >= from) {
        if chunk.events.len() >= limit {
            chunk.next = Some(*sequence);
            break;
        }
        let event = format::decode(*sequence, bytes).unwrap();
        chunk
            .events
            .push((*sequence, event, bytes.len().try_into().unwrap()));
    }
    chunk
}

/// An outbox with its disk, and what is known about each event.
struct World {
    outbox: Outbox,
    disk: BTreeMap<u64, NewEvent>,
    attempts: Vec<Attempt>,
    /// The events whose commit succeeded and that the portal has not acknowledged or rejected.
    durable: Vec<i32>,
    /// The events that were delivered or rejected.
    settled: Vec<i32>,
    /// Those of them that were settled since the last crash: they are not sent again.
    finished: BTreeSet<i32>,
    now: SystemTime,
    /// Set by a failed commit: what is in memory then does not wait for what is on disk.
    is_unordered: bool,
}

impl World {
    fn new() -> Self {
        Self {
            outbox: empty(WINDOW),
            disk: BTreeMap::new(),
            attempts: Vec::new(),
            durable: Vec::new(),
            settled: Vec::new(),
            finished: BTreeSet::new(),
            now: UNIX_EPOCH,
            is_unordered: false,
        }
    }

    fn load(&mut self) {
        let known = self.outbox.known_sequences();
        let unknown = self.disk.iter().filter(|(sequence, _)| !known.contains(sequence));
        let bytes: Vec<u64> = unknown
            .map(|(_, event)| event.bytes.len().try_into().unwrap())
            .collect();
        let last = self.disk.keys().next_back().copied();
        self.outbox.loaded(bytes.len(), bytes.iter().sum(), last);
    }

    fn store(&mut self, work: &mut Work) {
        for rejected in &mut work.rejected {
            rejected.is_in_file = true;
        }
        for sequence in work.removed() {
            self.disk.remove(&sequence);
        }
        for event in &work.events {
            self.disk.insert(event.sequence, event.clone());
        }
    }

    fn written(&mut self, work: &Work) {
        for event in &work.events {
            let number = format::decode(event.sequence, &event.bytes)
                .unwrap()
                .event
                .id
                .get();
            if !self.settled.contains(&number) && !self.durable.contains(&number) {
                self.durable.push(number);
            }
        }
        self.outbox.written(work);
    }

    fn write(&mut self, is_stored: bool, succeeds: bool) {
        let mut work = self.outbox.take_work();
        if is_stored {
            self.store(&mut work);
        }
        if succeeds {
            self.written(&work);
        } else {
            self.outbox.not_written(work);
            self.is_unordered = true;
            self.load();
        }
    }

    /// As the writer does: what is settled is removed, then events are read. `meanwhile` settles an
    /// attempt before the outbox learns of both.
    fn read(&mut self, meanwhile: Option<(usize, u8)>, now: Instant) {
        let Some(from) = self.outbox.read_from() else {
            return;
        };
        let mut work = self.outbox.take_work();
        self.store(&mut work);
        let disk: Vec<NewEvent> = self.disk.values().cloned().collect();
        let chunk = read(&disk, from, 3);
        if let Some((index, result)) = meanwhile
            && !self.attempts.is_empty()
        {
            let attempt = self.attempts.swap_remove(index % self.attempts.len());
            self.settle(attempt, result, now);
        }
        self.written(&work);
        self.outbox.read(chunk);
    }

    fn crash(&mut self) {
        self.now += Duration::from_secs(1);
        self.attempts.clear();
        self.finished.clear();
        self.is_unordered = false;
        self.outbox = Outbox::new(WINDOW, self.now);
        self.load();
    }

    /// Settles an attempt; `false` when an earlier event of its session is still durable.
    fn settle(&mut self, attempt: Attempt, result: u8, now: Instant) {
        let number = number_of(&attempt);
        let not_before = now + Duration::from_millis(5);
        let result = match result {
            0 => AttemptResult::Delivered,
            1 => AttemptResult::Rejected {
                problem: String::new(),
                retry_at: not_before,
            },
            2 => AttemptResult::Deferred(not_before),
            _ => AttemptResult::Unreachable,
        };
        if matches!(result, AttemptResult::Delivered | AttemptResult::Rejected { .. }) {
            self.durable.retain(|other| *other != number);
            self.settled.push(number);
            self.finished.insert(number);
        }
        self.outbox.settle(attempt.id, result);
    }
}

const WINDOW: Limits = Limits {
    max_bytes: u64::MAX,
    window: 4,
    max_unsaved: 1_000,
};

proptest! {
    #[test]
    fn no_durable_event_is_lost_and_those_of_a_session_are_sent_in_order(steps in steps()) {
        let mut world = World::new();
        let mut session_of = BTreeMap::new();
        let mut now = start();
        for (number, step) in (1..).zip(steps) {
            now += Duration::from_millis(1);
            match step {
                Step::Push(session) => {
                    session_of.insert(number, session);
                    prop_assert_eq!(push(&mut world.outbox, event(session, number)), [0; 0]);
                }
                Step::Next => {
                    if let Next::Send(attempt) = world.outbox.next(now) {
                        let number = number_of(&attempt);
                        let session = session_of[&number];
                        let earlier = |other: &&i32| **other < number && session_of[*other] == session;
                        let skipped = world.durable.iter().find(earlier);
                        prop_assert!(skipped.is_none() || world.is_unordered, "{skipped:?} before {number}");
                        prop_assert!(!world.finished.contains(&number), "{number} is sent again");
                        world.attempts.push(*attempt);
                    }
                }
                Step::Settle(_, _) if world.attempts.is_empty() => {}
                Step::Settle(index, result) => {
                    let attempt = world.attempts.swap_remove(index % world.attempts.len());
                    world.settle(attempt, result, now);
                }
                Step::Write { is_stored, succeeds } => world.write(is_stored, succeeds),
                Step::Read(meanwhile) => world.read(meanwhile, now),
                Step::Crash => world.crash(),
                Step::ClearDelays => world.outbox.clear_delays(),
            }
            let stats = world.outbox.stats();
            prop_assert!(stats.pending >= world.durable.len(), "{stats:?}");
        }
        for attempt in std::mem::take(&mut world.attempts) {
            world.settle(attempt, 3, now);
        }
        world.outbox.clear_delays();
        for _ in 0..2_000 {
            world.write(true, true);
            world.read(None, now);
            match world.outbox.next(now) {
                Next::Send(attempt) => world.settle(*attempt, 0, now),
                Next::Later(_) | Next::Idle => {}
            }
        }
        world.write(true, true);
        prop_assert_eq!(&world.durable, &Vec::<i32>::new());
        let stats = world.outbox.stats();
        prop_assert_eq!((stats.pending, stats.bytes, stats.unsaved), (0, 0, 0));
        prop_assert!(world.disk.is_empty());
    }
}
