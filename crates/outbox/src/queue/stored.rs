//! What is written to the store, and what is read from it.

use std::collections::HashSet;

use super::{Backlog, Entry, NewEvent, OnDisk, Outbox, QueuedEvent, Work, format};
use crate::store::Chunk;

impl Outbox {
    /// Records what an opened store has: `events` with `bytes` that are not in memory, the highest
    /// sequence being `last`. What is in memory is written again.
    pub fn loaded(&mut self, events: usize, bytes: u64, last: Option<u64>) {
        self.next_sequence = self.next_sequence.max(last.unwrap_or(0));
        self.store_works = true;
        for (sequence, entry) in &mut self.entries {
            if matches!(entry.disk, OnDisk::Yes) {
                let encoded = format::encode(*sequence, &entry.event, entry.queued).into();
                entry.disk = OnDisk::No { encoded, tried: true };
                self.unsaved.insert(*sequence);
            }
        }
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum::<u64>() + bytes;
        self.backlog = Some(Backlog {
            from: 0,
            events,
            bytes,
        });
        self.close_backlog_when_read();
    }

    /// Records that the store does not work: events in memory do not wait for those on disk.
    pub fn store_failed(&mut self) {
        self.store_works = false;
        if self.backlog.is_some_and(|backlog| backlog.events == 0) {
            self.backlog = None;
        }
        self.list_all();
    }

    /// Whether the store holds an event that is in memory, or that is to be removed.
    #[must_use]
    pub fn known_sequences(&self) -> Vec<u64> {
        let rejected = self.rejected.iter().map(|rejected| rejected.sequence);
        let mut known: Vec<u64> = self.entries.keys().copied().collect();
        known.extend(self.settled.iter().copied().chain(rejected));
        known.sort_unstable();
        known
    }

    /// Takes everything that is to be written or removed.
    #[must_use]
    pub fn take_work(&mut self) -> Work {
        let mut events = Vec::with_capacity(self.unsaved.len());
        for sequence in &self.unsaved {
            if let Some(Entry {
                disk: OnDisk::No { encoded, tried },
                ..
            }) = self.entries.get_mut(sequence)
            {
                *tried = true;
                events.push(NewEvent::encoded(*sequence, encoded));
            }
        }
        Work {
            events,
            settled: std::mem::take(&mut self.settled),
            rejected: std::mem::take(&mut self.rejected),
        }
    }

    /// Records that work is done. Rejected events that are not in the dead letters wait on.
    pub fn written(&mut self, work: &Work) {
        self.store_works = true;
        let waiting = work.rejected.iter().filter(|rejected| !rejected.is_in_file);
        self.rejected.extend(waiting.cloned());
        for NewEvent { sequence, .. } in &work.events {
            self.unsaved.remove(sequence);
            let Some(entry) = self.entries.get_mut(sequence) else {
                continue;
            };
            entry.disk = OnDisk::Yes;
            if let Some(backlog) = &mut self.backlog
                && !entry.is_listed
            {
                backlog.events += 1;
                backlog.bytes += entry.bytes;
                // The backlog's bytes count on.
                self.bytes += entry.bytes;
                self.forget(*sequence);
            }
        }
        self.close_backlog_when_read();
    }

    /// Records that work is not done, or not all of it: all of it is to be done again.
    pub fn not_written(&mut self, work: Work) {
        self.settled.extend(work.settled);
        self.rejected.extend(work.rejected);
        self.store_failed();
    }

    /// Returns from which sequence on events are to be read, when the window has room.
    #[must_use]
    pub fn read_from(&self) -> Option<u64> {
        let backlog = self.backlog.filter(|backlog| backlog.events > 0)?;
        (self.listed <= self.limits.window / 2).then_some(backlog.from)
    }

    /// Adds events that were read from the store.
    pub fn read(&mut self, chunk: Chunk) {
        let Some(mut backlog) = self.backlog else { return };
        for (sequence, bytes) in chunk.damaged {
            backlog.events = backlog.events.saturating_sub(1);
            backlog.bytes = backlog.bytes.saturating_sub(bytes);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.stats.dropped.damaged += 1;
            self.settled.push(sequence);
        }
        // What was settled since the work was taken is still on disk, and was in memory before.
        let rejected = self.rejected.iter().map(|rejected| rejected.sequence);
        let settled: HashSet<u64> = self.settled.iter().copied().chain(rejected).collect();
        let mut read = Vec::with_capacity(chunk.events.len());
        for (sequence, QueuedEvent { event, queued }, bytes) in chunk.events {
            backlog.from = sequence + 1;
            if self.entries.contains_key(&sequence) || settled.contains(&sequence) {
                continue;
            }
            backlog.events = backlog.events.saturating_sub(1);
            backlog.bytes = backlog.bytes.saturating_sub(bytes);
            let entry = Entry {
                event,
                queued,
                bytes,
                disk: OnDisk::Yes,
                is_listed: false,
                is_in_flight: false,
                deferrals: 0,
            };
            self.entries.insert(sequence, entry);
            read.push(sequence);
        }
        match chunk.next {
            // Whatever was counted, there is more.
            Some(next) => (backlog.from, backlog.events) = (next, backlog.events.max(1)),
            None => {
                self.bytes = self.bytes.saturating_sub(backlog.bytes);
                (backlog.events, backlog.bytes) = (0, 0);
            }
        }
        self.backlog = Some(backlog);
        for sequence in read {
            self.list(sequence);
        }
        self.close_backlog_when_read();
    }

    /// Lets every entry be sent once nothing is on disk only.
    pub(super) fn close_backlog_when_read(&mut self) {
        if self.backlog.is_some_and(|backlog| backlog.events == 0) && self.listed <= self.limits.window / 2 {
            self.backlog = None;
            self.list_all();
        }
    }
}
