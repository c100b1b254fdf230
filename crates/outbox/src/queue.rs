//! The queue of pending events, indexed by session.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use ocserv_agent_model::{Event, SessionUid};

/// The next step of a sender.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this event, and settle the attempt with its result.
    Send(Box<Attempt>),
    /// Wait: nothing may be sent before this time.
    Later(Instant),
    /// Wait: nothing may be sent before an event is pushed or an attempt is settled.
    Idle,
}

/// One event to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The attempt's id, for [`Outbox::settle`].
    pub id: AttemptId,
    /// The event.
    pub event: Event,
    /// How often the portal has deferred the event so far.
    pub deferrals: u32,
}

/// Identifies an attempt in flight.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an attempt that is not settled stays in flight"]
pub struct AttemptId(u64);

/// The result of an attempt to send an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// The portal acknowledged the event.
    Delivered,
    /// The portal rejected the event for good.
    Rejected,
    /// The portal did not acknowledge the event; the next attempt is not before this time.
    Deferred(Instant),
    /// The portal was not reached.
    Unreachable,
}

/// Counts of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxStats {
    /// Pending now, those in flight included.
    pub pending: usize,
    /// Acknowledged by the portal since the start.
    pub delivered: u64,
    /// Lost since the start, because more than the bound were pending.
    pub dropped: u64,
    /// Lost since the start, because the portal rejected them.
    pub rejected: u64,
}

/// Holds the pending events in the order in which they were pushed.
#[derive(Debug)]
pub struct Outbox {
    max: usize,
    /// The latest event's number; the smallest is the oldest.
    sequence: u64,
    pending: BTreeMap<u64, Pending>,
    /// The pending events of each session, the oldest first; never empty.
    by_session: HashMap<SessionUid, VecDeque<u64>>,
    /// First events of their sessions that may be sent now.
    ready: BTreeSet<u64>,
    /// First events of their sessions that may not be sent before a time.
    deferred: BTreeSet<(Instant, u64)>,
    delivered: u64,
    dropped: u64,
    rejected: u64,
}

#[derive(Debug)]
struct Pending {
    event: Event,
    is_in_flight: bool,
    not_before: Option<Instant>,
    deferrals: u32,
}

impl Outbox {
    /// Creates an empty outbox for at most `max` events.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            sequence: 0,
            pending: BTreeMap::new(),
            by_session: HashMap::new(),
            ready: BTreeSet::new(),
            deferred: BTreeSet::new(),
            delivered: 0,
            dropped: 0,
            rejected: 0,
        }
    }

    /// Adds an event. A full outbox drops and returns the oldest event that is not in flight; when
    /// all are in flight, that is the new one.
    #[must_use = "a dropped event is lost"]
    pub fn push(&mut self, event: Event) -> Option<Event> {
        self.sequence += 1;
        let sequence = self.sequence;
        let session = self.by_session.entry(event.uid.clone()).or_default();
        session.push_back(sequence);
        if session.len() == 1 {
            self.ready.insert(sequence);
        }
        let pending = Pending {
            event,
            is_in_flight: false,
            not_before: None,
            deferrals: 0,
        };
        self.pending.insert(sequence, pending);
        if self.pending.len() <= self.max {
            return None;
        }
        // The entries before it are in flight, which are few.
        let (&oldest, _) = self.pending.iter().find(|(_, pending)| !pending.is_in_flight)?;
        let dropped = self.remove(oldest)?;
        self.dropped += 1;
        Some(dropped.event)
    }

    /// Chooses the oldest event that may be sent at `now`; it is in flight until it is settled.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some(&(time, sequence)) = self.deferred.first()
            && time <= now
        {
            self.deferred.pop_first();
            self.ready.insert(sequence);
        }
        let Some(sequence) = self.ready.pop_first() else {
            return self
                .deferred
                .first()
                .map_or(Next::Idle, |&(time, _)| Next::Later(time));
        };
        let Some(pending) = self.pending.get_mut(&sequence) else {
            return Next::Idle;
        };
        pending.is_in_flight = true;
        Next::Send(Box::new(Attempt {
            id: AttemptId(sequence),
            event: pending.event.clone(),
            deferrals: pending.deferrals,
        }))
    }

    /// Records the result of an attempt that [`Self::next`] started.
    pub fn settle(&mut self, AttemptId(sequence): AttemptId, result: AttemptResult) {
        match result {
            AttemptResult::Delivered => {
                self.remove(sequence);
                self.delivered += 1;
            }
            AttemptResult::Rejected => {
                self.remove(sequence);
                self.rejected += 1;
            }
            AttemptResult::Deferred(not_before) => {
                if let Some(pending) = self.pending.get_mut(&sequence) {
                    pending.is_in_flight = false;
                    pending.not_before = Some(not_before);
                    pending.deferrals = pending.deferrals.saturating_add(1);
                    self.deferred.insert((not_before, sequence));
                }
            }
            AttemptResult::Unreachable => {
                if let Some(pending) = self.pending.get_mut(&sequence) {
                    pending.is_in_flight = false;
                    self.ready.insert(sequence);
                }
            }
        }
    }

    /// Makes deferred events ready to be sent at once.
    pub fn clear_delays(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        self.ready
            .extend(deferred.into_iter().map(|(_, sequence)| sequence));
    }

    /// The counts of events.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        OutboxStats {
            pending: self.pending.len(),
            delivered: self.delivered,
            dropped: self.dropped,
            rejected: self.rejected,
        }
    }

    /// The pending events, the oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Event> {
        self.pending.values().map(|pending| &pending.event)
    }

    /// Removes an event and makes the next one of its session ready.
    fn remove(&mut self, sequence: u64) -> Option<Pending> {
        let removed = self.pending.remove(&sequence)?;
        self.ready.remove(&sequence);
        if let Some(time) = removed.not_before {
            self.deferred.remove(&(time, sequence));
        }
        let uid = &removed.event.uid;
        let session = self.by_session.get_mut(uid)?;
        let position = session.iter().position(|other| *other == sequence)?;
        session.remove(position);
        match session.front() {
            Some(first) if position == 0 => {
                self.ready.insert(*first);
            }
            Some(_) => {}
            None => {
                self.by_session.remove(uid);
            }
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests;
