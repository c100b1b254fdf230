//! What is dropped, and in which order: updates that a later event replaces, then the oldest
//! updates, then the oldest of the others.

use std::time::SystemTime;

use ocserv_agent_model::{Event, EventKind, SessionUid};

use super::{Entry, Outbox, new_entry};

impl Outbox {
    /// Puts an update in the place of the one that waits of the same session; `false` when there is
    /// none. The place is kept, so that a session that is updated all the time is not delayed.
    pub(super) fn replace_update(&mut self, event: &Event, now: SystemTime) -> bool {
        let Some(sequence) = self.updates.get(&event.uid).copied() else {
            return false;
        };
        let Some(entry) = self.entries.get_mut(&sequence) else {
            return false;
        };
        if entry.is_in_flight {
            return false;
        }
        let fresh = new_entry(sequence, event.clone(), now);
        self.bytes = self.bytes - entry.bytes + fresh.bytes;
        (entry.event, entry.bytes, entry.queued) = (fresh.event, fresh.bytes, fresh.queued);
        true
    }

    /// Removes the update that waits of a session, unless it is in flight.
    pub(super) fn remove_update(&mut self, session: &SessionUid) {
        if let Some(sequence) = self.updates.get(session).copied()
            && self
                .entries
                .get(&sequence)
                .is_some_and(|entry| !entry.is_in_flight)
        {
            self.forget(sequence);
        }
    }

    /// Drops events until the bounds hold, and returns them. Events in flight are few and stay.
    pub(super) fn enforce_bounds(&mut self) -> Vec<Event> {
        let mut lost = Vec::new();
        while self.bytes > self.limits.max_bytes {
            let Some(oldest) = self.oldest_update().or_else(|| self.oldest()) else {
                break;
            };
            lost.extend(self.drop_entry(oldest));
        }
        while self.updates_by_age.len() > self.limits.max_unsaved {
            let Some(oldest) = self.oldest_update() else { break };
            lost.extend(self.drop_entry(oldest));
        }
        while self.unsaved.len() > self.limits.max_unsaved {
            let oldest = self.unsaved.iter().find(|sequence| self.may_drop(**sequence));
            let Some(oldest) = oldest.copied() else { break };
            lost.extend(self.drop_entry(oldest));
        }
        lost
    }

    fn oldest_update(&self) -> Option<u64> {
        let mut updates = self.updates_by_age.iter();
        updates.find(|sequence| self.may_drop(**sequence)).copied()
    }

    fn oldest(&self) -> Option<u64> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| !entry.is_in_flight && !entry.is_update());
        found.map(|(sequence, _)| *sequence)
    }

    fn may_drop(&self, sequence: u64) -> bool {
        let entry = self.entries.get(&sequence);
        entry.is_some_and(|entry| !entry.is_in_flight)
    }

    fn drop_entry(&mut self, sequence: u64) -> Option<Event> {
        let Entry { event, .. } = self.take(sequence)?;
        let dropped = &mut self.stats.dropped;
        match event.kind {
            EventKind::Connected(_) => dropped.connects += 1,
            EventKind::Disconnected(_) => dropped.disconnects += 1,
            EventKind::Updated(_) => dropped.updates += 1,
        }
        Some(event)
    }
}
