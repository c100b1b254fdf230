//! The queue of pending events: which may be sent, which are to be written, which are dropped.
//!
//! In memory are the oldest pending events, as many as the window holds, and those that are not on
//! disk yet. The rest, the *backlog*, is on disk only, and is read when the window has room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ocserv_agent_model::{Event, EventKind, SessionUid};

use crate::format::{self, QueuedEvent};
use crate::store::NewEvent;

mod attempt;
mod bounds;
mod order;
mod stats;
mod stored;
mod work;

use order::Order;

pub use attempt::{Attempt, AttemptId, AttemptResult, Next};
pub use stats::{Dropped, OutboxStats};
pub use work::{Rejected, Work};

/// Sequences that a run may use in each millisecond since the one before it.
const SEQUENCES_PER_MILLISECOND: u64 = 1 << 16;
/// Most rejected events that wait in memory to be written to the dead letters.
const MAX_REJECTED: usize = 4_096;

/// The bounds of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of all pending events, on disk and in memory.
    pub max_bytes: u64,
    /// Events in memory that are on disk too.
    pub window: usize,
    /// Events in memory that are not on disk, as while the disk does not work.
    pub max_unsaved: usize,
}

/// Holds the pending events in the order in which they were pushed.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    /// The next event's number; the smallest is the oldest.
    next_sequence: u64,
    entries: BTreeMap<u64, Entry>,
    /// Which of the listed entries may be sent.
    order: Order,
    /// The number of listed entries that are to be on disk.
    listed: usize,
    /// Entries that are to be written.
    unsaved: BTreeSet<u64>,
    /// The update of each session that has one.
    updates: HashMap<SessionUid, u64>,
    updates_by_age: BTreeSet<u64>,
    /// `None` when every pending event is in memory and listed.
    backlog: Option<Backlog>,
    /// While it does not, later events do not wait for the backlog.
    store_works: bool,
    /// Events to remove from the disk.
    settled: Vec<u64>,
    rejected: Vec<Rejected>,
    /// The bytes of the entries and of the backlog.
    bytes: u64,
    stats: OutboxStats,
}

/// The pending events that are on disk only.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    /// They have this sequence or a higher one.
    from: u64,
    events: usize,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    queued: SystemTime,
    bytes: u64,
    disk: OnDisk,
    /// Whether it is in the order, so that it may be sent.
    is_listed: bool,
    is_in_flight: bool,
    deferrals: u32,
}

#[derive(Debug, Clone)]
enum OnDisk {
    /// It is an update: the next one replaces it, so it is never written.
    Never,
    /// It is to be written. `tried` when a commit with it began, so that it may be there.
    No {
        encoded: Arc<[u8]>,
        tried: bool,
    },
    Yes,
}

impl Entry {
    fn is_update(&self) -> bool {
        matches!(self.disk, OnDisk::Never)
    }
}

impl Outbox {
    /// Creates an outbox at the time `now`. Its events wait until [`Self::loaded`] or
    /// [`Self::store_failed`] is called.
    #[must_use]
    pub fn new(limits: Limits, now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(0);
        Self {
            limits,
            // Above those of earlier runs, before they are read.
            next_sequence: milliseconds.saturating_mul(SEQUENCES_PER_MILLISECOND),
            entries: BTreeMap::new(),
            order: Order::default(),
            listed: 0,
            unsaved: BTreeSet::new(),
            updates: HashMap::new(),
            updates_by_age: BTreeSet::new(),
            backlog: Some(Backlog {
                from: 0,
                events: 0,
                bytes: 0,
            }),
            store_works: true,
            settled: Vec::new(),
            rejected: Vec::new(),
            bytes: 0,
            stats: OutboxStats::default(),
        }
    }

    /// Adds an event that is queued at `now`; returns those that were lost, which may be this one.
    #[must_use = "a dropped event is lost"]
    pub fn push(&mut self, event: Event, now: SystemTime) -> Vec<Event> {
        match &event.kind {
            EventKind::Updated(_) => {
                if self.replace_update(&event, now) {
                    return Vec::new();
                }
            }
            // It has the final usage.
            EventKind::Disconnected(_) => self.remove_update(&event.uid),
            EventKind::Connected(_) => {}
        }
        self.next_sequence += 1;
        let sequence = self.next_sequence;
        let entry = new_entry(sequence, event, now);
        self.bytes += entry.bytes;
        if entry.is_update() {
            self.updates.insert(entry.event.uid.clone(), sequence);
            self.updates_by_age.insert(sequence);
        } else {
            self.unsaved.insert(sequence);
            if self.backlog.is_none() && self.listed >= self.limits.window {
                self.backlog = Some(Backlog {
                    from: sequence,
                    events: 0,
                    bytes: 0,
                });
            }
        }
        self.entries.insert(sequence, entry);
        if self.backlog.is_none() || !self.store_works {
            self.list(sequence);
        }
        self.enforce_bounds()
    }

    /// Chooses the oldest event that may be sent at `now`; it is in flight until it is settled.
    pub fn next(&mut self, now: Instant) -> Next {
        let sequence = match self.order.next(now) {
            order::Next::Ready(sequence) => sequence,
            order::Next::Later(time) => return Next::Later(time),
            order::Next::Idle => return Next::Idle,
        };
        let Some(entry) = self.entries.get_mut(&sequence) else {
            return Next::Idle;
        };
        entry.is_in_flight = true;
        Next::Send(Box::new(Attempt {
            id: AttemptId(sequence),
            event: entry.event.clone(),
            deferrals: entry.deferrals,
        }))
    }

    /// Records the result of an attempt that [`Self::next`] started.
    pub fn settle(&mut self, AttemptId(sequence): AttemptId, result: AttemptResult) {
        let result = match result {
            AttemptResult::Rejected { retry_at, .. } if self.rejected.len() >= MAX_REJECTED => {
                AttemptResult::Deferred(retry_at)
            }
            result => result,
        };
        match result {
            AttemptResult::Delivered => {
                self.take(sequence);
                self.stats.delivered += 1;
            }
            AttemptResult::Rejected { problem, .. } => {
                self.stats.rejected += 1;
                self.reject(sequence, problem);
            }
            AttemptResult::Deferred(not_before) => {
                if let Some(entry) = self.entries.get_mut(&sequence) {
                    entry.is_in_flight = false;
                    entry.deferrals = entry.deferrals.saturating_add(1);
                    self.order.defer(&entry.event.uid, sequence, not_before);
                }
            }
            AttemptResult::Unreachable => {
                if let Some(entry) = self.entries.get_mut(&sequence) {
                    entry.is_in_flight = false;
                    self.order.release(&entry.event.uid, sequence);
                }
            }
        }
        self.close_backlog_when_read();
    }

    /// Makes deferred events ready to be sent at once.
    pub fn clear_delays(&mut self) {
        self.order.clear_delays();
    }

    /// The counts of events.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        let backlog = self.backlog.map_or(0, |backlog| backlog.events);
        OutboxStats {
            pending: self.entries.len() + backlog,
            unsaved: self.unsaved.len() + self.rejected.len(),
            bytes: self.bytes,
            oldest: self.entries.values().next().map(|entry| entry.queued),
            ..self.stats.clone()
        }
    }

    /// The pending events in memory with their times, the oldest first.
    pub fn queued(&self) -> impl Iterator<Item = QueuedEvent> {
        self.entries.values().map(|entry| QueuedEvent {
            event: entry.event.clone(),
            queued: entry.queued,
        })
    }

    /// The pending events in memory, the oldest first.
    pub fn in_memory(&self) -> impl Iterator<Item = &Event> {
        self.entries.values().map(|entry| &entry.event)
    }

    /// Lets an entry be sent.
    fn list(&mut self, sequence: u64) {
        if let Some(entry) = self.entries.get_mut(&sequence)
            && !entry.is_listed
        {
            entry.is_listed = true;
            self.order.insert(&entry.event.uid, sequence);
            self.listed += usize::from(!entry.is_update());
        }
    }

    /// Lets every entry be sent.
    fn list_all(&mut self) {
        let waiting = self.entries.iter().filter(|(_, entry)| !entry.is_listed);
        let waiting: Vec<u64> = waiting.map(|(sequence, _)| *sequence).collect();
        for sequence in waiting {
            self.list(sequence);
        }
    }

    /// Removes an entry, and from the disk what may be there of it.
    fn take(&mut self, sequence: u64) -> Option<Entry> {
        let entry = self.forget(sequence)?;
        if matches!(entry.disk, OnDisk::Yes | OnDisk::No { tried: true, .. }) {
            self.settled.push(sequence);
        }
        Some(entry)
    }

    /// Removes an entry from memory.
    fn forget(&mut self, sequence: u64) -> Option<Entry> {
        let entry = self.entries.remove(&sequence)?;
        debug_assert!(self.bytes >= entry.bytes, "bytes that were never counted");
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        self.unsaved.remove(&sequence);
        if entry.is_listed {
            self.order.remove(&entry.event.uid, sequence);
            self.listed -= usize::from(!entry.is_update());
        }
        if entry.is_update() {
            self.updates_by_age.remove(&sequence);
            if self.updates.get(&entry.event.uid) == Some(&sequence) {
                self.updates.remove(&entry.event.uid);
            }
        }
        Some(entry)
    }

    /// Keeps a rejected event for the dead letters. An update is no loss.
    fn reject(&mut self, sequence: u64, problem: String) {
        let Some(entry) = self.forget(sequence) else {
            return;
        };
        if !entry.is_update() {
            self.rejected.push(Rejected {
                sequence,
                event: QueuedEvent {
                    event: entry.event,
                    queued: entry.queued,
                },
                problem,
                is_in_file: false,
            });
        }
    }
}

fn new_entry(sequence: u64, event: Event, queued: SystemTime) -> Entry {
    let encoded = format::encode(sequence, &event, queued);
    let bytes = u64::try_from(encoded.len()).unwrap_or(u64::MAX);
    let disk = match event.kind {
        EventKind::Updated(_) => OnDisk::Never,
        EventKind::Connected(_) | EventKind::Disconnected(_) => OnDisk::No {
            encoded: encoded.into(),
            tried: false,
        },
    };
    Entry {
        event,
        queued,
        bytes,
        disk,
        is_listed: false,
        is_in_flight: false,
        deferrals: 0,
    }
}

#[cfg(test)]
mod tests;
