//! What a copy of the cache on disk needs: its changes, and the way back.

use std::sync::Arc;

use ocserv_agent_model::Username;

use super::answer::CachedAnswer;
use super::denied_user::DeniedUser;
use super::users::{IndexedKey, User};
use super::{Cache, ChangeCollector, Records, Revocation};
use crate::time::Now;

/// Users that one step of a copy of the whole content visits.
const COPY_STEP: usize = 64;
/// Changed entries that one step collects.
const CHANGES_STEP: usize = 512;

impl Cache {
    /// Collects some of the changes since they were last collected; bounded work. Returns whether
    /// there are more. The result is right when there are none: a change in the meantime is
    /// collected too.
    pub fn collect(&mut self, collector: &mut ChangeCollector) -> bool {
        if std::mem::take(&mut self.changes.all) {
            collector.copy_all();
        }
        if collector.copying {
            self.copy(collector);
            return true;
        }
        for _ in 0..CHANGES_STEP {
            if let Some(key) = self.changes.answers.pop_first() {
                let record = self.peek(&key).map(|answer| answer.record(&key));
                collector.add_answer(key, record);
            } else if let Some(user) = self.changes.users.pop_first() {
                let entry = self.users.get(&user);
                let record = entry.and_then(|entry| Some(entry.denied.as_ref()?.record(&user)));
                collector.add_user(user, record);
            } else {
                return false;
            }
        }
        true
    }

    /// Copies the next users of the whole content.
    pub(super) fn copy(&self, collector: &mut ChangeCollector) {
        let copied = collector.copied.take();
        let mut visited = 0;
        for (username, User { answers, denied }) in self.users.after(copied.as_ref()).take(COPY_STEP) {
            for IndexedKey { key, .. } in answers {
                let record = self.peek(key).map(|answer| answer.record(key));
                collector.add_answer(Arc::clone(key), record);
            }
            if let Some(denied) = denied {
                collector.add_user(username.clone(), Some(denied.record(username)));
            }
            collector.copied = Some(username.clone());
            visited += 1;
        }
        collector.copying = visited == COPY_STEP;
    }

    /// Makes the next collection have all records; call it when changes were not written.
    pub fn mark_all_changed(&mut self) {
        self.changes.record_all();
    }

    /// Restores the records of an earlier process as stale answers with their true age. A record
    /// from the future gets age zero. Left out are allows and revocations that have reached
    /// `stale_ttl`, allows that are `stale_ttl` ahead of the clock, and the oldest above the
    /// bounds. What is present already stays, and no allow is restored for a user about whom
    /// anything is: that may stem from a later deny or revocation. Returns how many answers were
    /// restored.
    pub fn restore(&mut self, records: Records, now: Now) -> usize {
        let Records {
            mut decisions,
            revocations,
        } = records;
        let (before, given) = (self.size(), decisions.len());
        let is_unknown = |user: &Username| !self.has_forgotten && self.users.get(user).is_none();
        decisions.retain(|record| !record.verdict.is_allow() || is_unknown(&record.key.username));
        self.restore_denied(revocations, now);
        decisions.sort_by_key(|record| record.asked);
        for is_allow in [true, false] {
            let same = decisions
                .iter()
                .filter(|record| record.verdict.is_allow() == is_allow);
            let surplus = same.clone().count().saturating_sub(self.settings.max_size);
            for record in same.skip(surplus) {
                let ahead = record.asked.duration_since(now.wall).unwrap_or_default();
                let answer = CachedAnswer::restored(&record.key, record.verdict.clone(), record.asked, now);
                let too_old = is_allow && answer.age(now).max(ahead) >= self.settings.stale_ttl;
                if !too_old && self.peek(&record.key).is_none() {
                    self.insert(&Arc::new(record.key.clone()), answer);
                }
            }
        }
        let restored = self.size().saturating_sub(before);
        if restored < given {
            self.changes.record_all();
        }
        restored
    }

    fn restore_denied(&mut self, mut records: Vec<Revocation>, now: Now) {
        records.sort_by_key(|record| std::cmp::Reverse(record.at));
        // An earlier process may have had no room for more. A later one must find that out too.
        self.has_forgotten |= records.len() >= self.settings.max_size;
        for record in records {
            let (username, at) = (record.username.clone(), record.at);
            let denied = DeniedUser::restored(record, now);
            let is_over = !self.has_forgotten && denied.is_over(now, self.settings.stale_ttl);
            if is_over || at > now.wall {
                self.changes.record_user(&username, self.settings.max_size);
            }
            if !is_over && self.users.denied_mut(&username).is_none() {
                self.add_denied(&username, denied);
            }
        }
    }
}
