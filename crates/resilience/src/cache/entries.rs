//! How entries are added and removed, so that answers, index and change log agree.

use std::sync::Arc;

use ocserv_agent_model::{Username, Verdict};

use super::Cache;
use super::answer::CachedAnswer;
use super::answers::{Answers, Evicted};
use super::denied_user::DeniedUser;
use super::key::CacheKey;
use super::users::IndexedKey;
use crate::time::Now;

impl Cache {
    /// Returns how many answers there are.
    pub(super) fn size(&self) -> usize {
        self.allows.len() + self.denies.len()
    }

    pub(super) fn answers_mut(&mut self, is_allow: bool) -> &mut Answers {
        if is_allow {
            &mut self.allows
        } else {
            &mut self.denies
        }
    }

    /// Returns the answer to `key` without marking it as used.
    pub(super) fn peek(&self, key: &CacheKey) -> Option<&CachedAnswer> {
        self.allows.peek(key).or_else(|| self.denies.peek(key))
    }

    /// Returns the latest answer for the same user, group and vhost, from whatever address.
    pub(super) fn latest_in_scope(&self, key: &CacheKey) -> Option<&CachedAnswer> {
        let mut keys = self.users.answers(&key.username).iter().rev();
        let latest = keys.find(|other| other.key.same_but_address(key))?;
        self.peek(&latest.key)
    }

    /// Inserts or replaces an answer; the caller records the change. Returns whether it was kept.
    pub(super) fn insert(&mut self, key: &Arc<CacheKey>, answer: CachedAnswer) -> bool {
        let is_allow = answer.verdict.is_allow();
        self.answers_mut(!is_allow).remove(key);
        self.users.add_answer(key, is_allow);
        let evicted = self.answers_mut(is_allow).insert(key, answer);
        self.handle_evicted(evicted);
        let max = self.settings.max_per_user;
        if let Some(oldest) = self.users.surplus_answer(&key.username, is_allow, max)
            && let Some(answer) = self.answers_mut(is_allow).remove(&oldest)
        {
            self.handle_evicted(vec![(oldest, answer)]);
        }
        self.peek(key).is_some()
    }

    /// Removes answers that made room for others from the index. A deny that is evicted denies its
    /// user from whatever address instead.
    pub(super) fn handle_evicted(&mut self, evicted: Evicted) {
        for (key, answer) in evicted {
            self.stats.evictions += 1;
            self.users.remove_answer(&key);
            self.changes.record_answer(&key, self.settings.max_size);
            if let Verdict::Deny(denial) = &answer.verdict {
                self.deny_user(&key, &denial.reason, answer.asked);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &CacheKey) -> bool {
        let is_known = self
            .allows
            .remove(key)
            .or_else(|| self.denies.remove(key))
            .is_some();
        let keys = self.users.answers(&key.username).iter();
        if let Some(IndexedKey { key, .. }) = keys.clone().find(|other| *other.key == *key).cloned() {
            self.users.remove_answer(&key);
            self.changes.record_answer(&key, self.settings.max_size);
        }
        is_known
    }

    /// Records a deny about the user of `key`.
    pub(super) fn deny_user(&mut self, key: &CacheKey, reason: &str, at: Now) {
        self.change_denied(&key.username, at, |denied| denied.deny(key.scope(), reason, at));
    }

    /// Records an allow of `key`, which the source was asked about at `asked`.
    pub(super) fn allow_user(&mut self, key: &CacheKey, asked: Now) {
        let Some(denied) = self.users.denied_mut(&key.username) else {
            return;
        };
        if denied.allow(key, asked) {
            // With denies forgotten, all stay: a later process knows by their number.
            if !self.has_forgotten && denied.is_over(asked, self.settings.stale_ttl) {
                self.users.remove_denied(&key.username);
            }
            self.changes.record_user(&key.username, self.settings.max_size);
        }
    }

    /// Changes what denies a user. A user for whom there is no room is forgotten.
    pub(super) fn change_denied(&mut self, user: &Username, at: Now, change: impl FnOnce(&mut DeniedUser)) {
        if let Some(denied) = self.users.denied_mut(user) {
            change(denied);
        } else {
            let mut denied = DeniedUser::new(at);
            change(&mut denied);
            self.add_denied(user, denied);
        }
        self.changes.record_user(user, self.settings.max_size);
    }

    /// Adds what denies a user of whom nothing does yet.
    pub(super) fn add_denied(&mut self, user: &Username, denied: DeniedUser) {
        if self.users.denied_count() < self.settings.max_size {
            self.users.add_denied(user, denied);
        } else {
            self.has_forgotten = true;
            self.stats.forgotten_denies += 1;
        }
    }
}
