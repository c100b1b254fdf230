//! Which events may be sent: of each session the first only.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use ocserv_agent_model::SessionUid;

/// The order of events, by session.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The events of each session, the oldest first; never empty.
    by_session: HashMap<SessionUid, VecDeque<u64>>,
    /// First events of their sessions that may be sent now.
    ready: BTreeSet<u64>,
    /// First events of their sessions that may not be sent before a time.
    deferred: BTreeSet<(Instant, u64)>,
    delays: HashMap<u64, Instant>,
}

/// What may be sent.
pub(super) enum Next {
    Ready(u64),
    Later(Instant),
    Idle,
}

impl Order {
    pub(super) fn insert(&mut self, session: &SessionUid, sequence: u64) {
        let events = self.by_session.entry(session.clone()).or_default();
        let place = events.partition_point(|other| *other < sequence);
        events.insert(place, sequence);
        if place == 0 {
            // One that is in flight stays so: it is neither ready nor deferred.
            if let Some(second) = events.get(1).copied() {
                self.withdraw(second);
            }
            self.ready.insert(sequence);
        }
    }

    /// Removes an event and makes the next one of its session ready.
    pub(super) fn remove(&mut self, session: &SessionUid, sequence: u64) {
        self.withdraw(sequence);
        let Some(events) = self.by_session.get_mut(session) else {
            return;
        };
        let Ok(place) = events.binary_search(&sequence) else {
            return;
        };
        events.remove(place);
        match events.front() {
            Some(first) if place == 0 => {
                self.ready.insert(*first);
            }
            Some(_) => {}
            None => {
                self.by_session.remove(session);
            }
        }
    }

    /// Takes the oldest event that may be sent at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        while let Some(&(time, sequence)) = self.deferred.first()
            && time <= now
        {
            self.withdraw(sequence);
            self.ready.insert(sequence);
        }
        match (self.ready.pop_first(), self.deferred.first()) {
            (Some(sequence), _) => Next::Ready(sequence),
            (None, Some(&(time, _))) => Next::Later(time),
            (None, None) => Next::Idle,
        }
    }

    /// Puts back an event that [`Self::next`] took, to be sent after a time.
    pub(super) fn defer(&mut self, session: &SessionUid, sequence: u64, not_before: Instant) {
        if self.is_first(session, sequence) {
            self.deferred.insert((not_before, sequence));
            self.delays.insert(sequence, not_before);
        }
    }

    /// Puts back an event that [`Self::next`] took.
    pub(super) fn release(&mut self, session: &SessionUid, sequence: u64) {
        if self.is_first(session, sequence) {
            self.ready.insert(sequence);
        }
    }

    pub(super) fn clear_delays(&mut self) {
        self.delays.clear();
        let deferred = std::mem::take(&mut self.deferred);
        self.ready
            .extend(deferred.into_iter().map(|(_, sequence)| sequence));
    }

    fn is_first(&self, session: &SessionUid, sequence: u64) -> bool {
        let events = self.by_session.get(session);
        events.and_then(VecDeque::front) == Some(&sequence)
    }

    fn withdraw(&mut self, sequence: u64) {
        self.ready.remove(&sequence);
        if let Some(time) = self.delays.remove(&sequence) {
            self.deferred.remove(&(time, sequence));
        }
    }
}
