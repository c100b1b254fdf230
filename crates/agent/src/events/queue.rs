//! The queue itself: a plain value that knows no clock.

use std::collections::{HashSet, VecDeque};

use ocserv_agent_model::{Event, EventId};
use tokio::time::Instant;

use super::EventCounts;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Offer this.
    Offer(Box<Event>),
    /// Nothing before this time.
    Later(Instant),
    /// Nothing until something happens.
    Nothing,
}

/// How an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The portal has it.
    Delivered,
    /// The portal will never take it.
    Rejected,
    /// The portal would not take it; not again before this time.
    Refused(Instant),
    /// The portal was not reached.
    Not,
}

/// Events in the order in which they happened; those of one session are offered one after the other.
#[derive(Debug)]
pub(super) struct Queue {
    max: usize,
    pending: VecDeque<Slot>,
    dropped: u64,
    delivered: u64,
    rejected: u64,
}

#[derive(Debug)]
struct Slot {
    event: Event,
    under_way: bool,
    not_before: Option<Instant>,
    /// How often the portal refused it.
    refusals: u32,
}

impl Queue {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            pending: VecDeque::new(),
            dropped: 0,
            delivered: 0,
            rejected: 0,
        }
    }

    /// Puts an event at the end. When the queue is full an older one is lost for it, the oldest that is not on its way; when
    /// all are on their way, the new one is. Gives the lost one's name, and how many are lost by now.
    pub(super) fn push(&mut self, event: Event) -> Option<(EventId, u64)> {
        self.pending.push_back(Slot {
            event,
            under_way: false,
            not_before: None,
            refusals: 0,
        });
        if self.pending.len() <= self.max {
            return None;
        }
        let oldest = self.pending.iter().position(|slot| !slot.under_way)?;
        let lost = self.pending.remove(oldest)?;
        self.dropped += 1;
        Some((lost.event.event_id, self.dropped))
    }

    /// The first event that may go at `now`; it counts as on its way until it is settled.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let mut later: Option<Instant> = None;
        let mut held_up = HashSet::new();
        for slot in &mut self.pending {
            let is_first = held_up.insert(slot.event.uid.clone());
            if slot.under_way || !is_first {
                continue;
            }
            match slot.not_before.filter(|time| *time > now) {
                Some(time) => later = Some(later.map_or(time, |first| first.min(time))),
                None => {
                    slot.under_way = true;
                    return Next::Offer(Box::new(slot.event.clone()));
                }
            }
        }
        later.map_or(Next::Nothing, Next::Later)
    }

    /// The offer of this event is over. Nothing happens if the bound has pushed it out meanwhile.
    pub(super) fn settle(&mut self, event_id: &EventId, taken: Taken) {
        let Some(index) = self
            .pending
            .iter()
            .position(|slot| slot.event.event_id == *event_id)
        else {
            return;
        };
        match taken {
            Taken::Delivered | Taken::Rejected => {
                self.pending.remove(index);
            }
            Taken::Refused(_) | Taken::Not => self.pending[index].under_way = false,
        }
        match taken {
            Taken::Delivered => self.delivered += 1,
            Taken::Rejected => self.rejected += 1,
            Taken::Refused(not_before) => {
                self.pending[index].not_before = Some(not_before);
                self.pending[index].refusals = self.pending[index].refusals.saturating_add(1);
            }
            Taken::Not => {}
        }
    }

    /// How often the portal refused this event.
    pub(super) fn refusals(&self, event_id: &EventId) -> u32 {
        let slot = self.pending.iter().find(|slot| slot.event.event_id == *event_id);
        slot.map_or(0, |slot| slot.refusals)
    }

    /// Lets everything go at once that was put off.
    pub(super) fn hurry(&mut self) {
        for slot in &mut self.pending {
            slot.not_before = None;
        }
    }

    pub(super) fn counts(&self) -> EventCounts {
        EventCounts {
            pending: self.pending.len(),
            delivered: self.delivered,
            dropped: self.dropped,
            rejected: self.rejected,
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<Event> {
        self.pending.iter().map(|slot| slot.event.clone()).collect()
    }
}
