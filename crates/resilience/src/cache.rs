//! The cache of decisions: the policy source's answers, fresh or for use in an outage.
//!
//! An answer is **fresh** for its TTL, counted from the start of the query. The fresh path
//! ([`Cache::lookup`]) returns verdicts of fresh answers only; of a stale one it returns no more
//! than its age. Verdicts of stale answers come from [`Cache::stale_answer`] alone, which the
//! pipeline calls in an outage:
//!
//! - an allow serves while it is younger than `stale_ttl`;
//! - a deny serves for as long as it is in the cache, so that no outage turns it into an allow;
//! - with [`StaleMatch::User`] the latest decision for the same user, group and vhost serves, from
//!   whatever address; a deny for exactly this login takes precedence;
//! - where no answer serves, a user who was [revoked](Cache::revoke_user) less than `stale_ttl` ago
//!   is denied, from whatever address, except in a group and vhost in which the source has allowed
//!   the user since.
//!
//! Time: see [`Now::since`]. An answer from the wall clock's future (the clock was set back) is
//! stale. An answer that was [restored](Cache::restore) is stale too, however young: between the
//! last write and the end of the process it may have been revoked, so after a restart the source is
//! asked again.
//!
//! Every answer belongs to a [`Query`]; one from before an invalidation that covers it is not
//! stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Username, Verdict};

use crate::lru::{Ends, Links, Lru, Slot};
use crate::time::Now;

mod answer;
mod change_log;
mod invalidations;
mod key;
mod query;
mod records;
mod results;
mod revocations;
mod settings;
mod stats;
#[cfg(test)]
mod tests;

pub use invalidations::Epoch;
pub use key::{AccessScope, CacheKey};
pub use query::Query;
pub use records::{Changes, Record, Records, Revocation};
pub use results::{Hit, Lookup, StaleAnswer, StoreResult};
pub use settings::{CacheSettings, StaleMatch, Ttl};
pub use stats::CacheStats;

use answer::CachedAnswer;
use change_log::ChangeLog;
use invalidations::{Invalidation, Invalidations};
use revocations::Revocations;

/// A cache of decisions.
#[derive(Debug)]
pub struct Cache {
    settings: CacheSettings,
    answers: Lru<Arc<CacheKey>, CachedAnswer>,
    /// The answers of each user, the one stored last first.
    users: HashMap<Username, Ends>,
    by_user: Links,
    revocations: Revocations,
    invalidations: Invalidations,
    changes: ChangeLog,
    stats: CacheStats,
}

impl Cache {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            answers: Lru::new(),
            users: HashMap::new(),
            by_user: Links::default(),
            revocations: Revocations::new(),
            invalidations: Invalidations::new(),
            changes: ChangeLog::new(),
            stats: CacheStats::default(),
        }
    }

    /// Looks for a fresh answer to `key`.
    pub fn lookup(&mut self, key: &CacheKey, now: Now) -> Lookup<'_> {
        let Some(slot) = self.answers.slot(key) else {
            self.stats.misses += 1;
            return Lookup::Missing;
        };
        self.answers.touch(slot);
        let Some(answer) = self.answers.at_mut(slot) else {
            return Lookup::Missing;
        };
        match (now.since(&answer.asked), answer.ttl) {
            (Some(age), Some(ttl)) if age < ttl => {
                self.stats.hits += 1;
                let refresh = !answer.refreshed && age >= ttl - ttl / 5;
                answer.refreshed |= refresh;
                Lookup::Fresh(Hit {
                    verdict: &answer.verdict,
                    age,
                    refresh,
                })
            }
            _ => {
                self.stats.misses += 1;
                Lookup::Stale { age: answer.age(now) }
            }
        }
    }

    /// Returns the answer that serves `key` in an outage. Call it only after the source was tried
    /// or the breaker refused.
    pub fn stale_answer(&mut self, key: &CacheKey, now: Now) -> Option<StaleAnswer> {
        let answer = match self.servable_slot(key, now) {
            Some(slot) => {
                self.answers.touch(slot);
                let (_, answer) = self.answers.at(slot)?;
                Some(StaleAnswer {
                    verdict: answer.verdict.clone(),
                    age: answer.age(now),
                })
            }
            None => self.revocations.stale_answer(key, now, self.settings.stale_ttl),
        };
        self.stats.stale_hits += u64::from(answer.is_some());
        answer
    }

    /// Returns the slot of the answer that serves `key` in an outage.
    fn servable_slot(&self, key: &CacheKey, now: Now) -> Option<Slot> {
        let exact = self.answers.slot(key);
        let slot = match self.settings.stale_match {
            StaleMatch::Exact => exact,
            StaleMatch::User => {
                let denied =
                    exact.filter(|&slot| self.answers.at(slot).is_some_and(|(_, a)| !a.verdict.is_allow()));
                denied.or_else(|| self.latest_of_user(key))
            }
        }?;
        let (_, answer) = self.answers.at(slot)?;
        let serves = !answer.verdict.is_allow() || answer.age(now) < self.settings.stale_ttl;
        serves.then_some(slot)
    }

    /// Starts a query about `key`; its answer goes to [`Cache::store`].
    #[must_use]
    pub fn start_query(&self, key: CacheKey, now: Now) -> Query {
        Query {
            key: Arc::new(key),
            asked: now,
            epoch: self.epoch(),
        }
    }

    /// Returns the present epoch, for [`Self::invalidated_since`].
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.invalidations.epoch()
    }

    /// Whether an invalidation after `epoch` covers `key`, so that an answer from before must not
    /// be used.
    #[must_use]
    pub fn invalidated_since(&self, key: &CacheKey, epoch: Epoch) -> bool {
        self.invalidations.cover(key, epoch)
    }

    /// Stores the answer to `query`.
    pub fn store(&mut self, query: Query, verdict: Verdict, ttl: Ttl) -> StoreResult {
        if self.invalidated_since(&query.key, query.epoch) {
            return StoreResult::Invalidated;
        }
        let known = self
            .answers
            .slot(&query.key)
            .and_then(|slot| self.answers.at(slot));
        if known.is_some_and(|(_, answer)| answer.asked.mono > query.asked.mono) {
            return StoreResult::NotStored;
        }
        if verdict.is_allow() {
            self.revocations
                .record_allow(&query.key, self.settings.max_size, &mut self.changes);
        }
        let ttl = match (ttl, &verdict) {
            (Ttl::For(ttl), _) => ttl,
            (Ttl::Default, Verdict::Allow(_)) => self.settings.ttl,
            (Ttl::Default, Verdict::Deny(_)) => self.settings.deny_ttl,
            (Ttl::DoNotCache, _) => Duration::ZERO,
        };
        let ttl = ttl.min(self.settings.max_ttl);
        self.remove_key(&query.key);
        // A deny with a TTL of zero is stored all the same: no outage may turn it into an allow.
        if (ttl.is_zero() && verdict.is_allow()) || self.settings.max_size == 0 {
            return StoreResult::NotStored;
        }
        self.changes.record_answer(&query.key, self.settings.max_size);
        self.insert(
            query.key,
            CachedAnswer {
                verdict,
                asked: query.asked,
                ttl: Some(ttl),
                refreshed: false,
            },
        );
        StoreResult::Stored
    }

    /// Drops the answer to `key`. Returns how many there were.
    pub fn invalidate_key(&mut self, key: &CacheKey) -> usize {
        self.invalidations.record(Invalidation::Key(key.clone()));
        usize::from(self.remove_key(key))
    }

    /// Revokes `user`: drops allows, expires denies, denies in outages until `stale_ttl` or a new
    /// allow. Returns how many answers there were.
    pub fn revoke_user(&mut self, user: &Username, reason: &str, now: Now) -> usize {
        self.invalidations.record(Invalidation::User(user.clone()));
        let ends = self.users.get(user);
        let slots: Vec<Slot> = ends.map_or_else(Vec::new, |ends| self.by_user.walk(*ends).collect());
        for &slot in &slots {
            match self.answers.at_mut(slot) {
                Some(answer) if !answer.verdict.is_allow() => answer.ttl = Some(Duration::ZERO),
                _ => self.remove(slot),
            }
        }
        self.revocations
            .revoke(user, reason, now, &self.settings, &mut self.changes);
        slots.len()
    }

    /// Drops every answer and returns how many there were. Revocations stay.
    pub fn invalidate_all(&mut self) -> usize {
        self.invalidations.record(Invalidation::All);
        let dropped = self.answers.len();
        self.answers = Lru::new();
        self.users.clear();
        self.by_user = Links::default();
        self.changes.record_all();
        dropped
    }

    /// Replaces the settings. TTLs apply to later answers; `stale_ttl`, `stale_match` and
    /// `max_size` apply at once.
    pub fn configure(&mut self, settings: CacheSettings) {
        self.settings = settings;
        self.shrink_to(settings.max_size);
        self.revocations.shrink_to(settings.max_size, &mut self.changes);
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            size: self.answers.len(),
            ..self.stats
        }
    }

    /// Returns the changes since the last call.
    pub fn take_changes(&mut self) -> Changes {
        let (answers, users) = match self.changes.take() {
            ChangeLog::Partial { answers, users } => (answers, users),
            ChangeLog::Full => return Changes::Full(self.records()),
        };
        let (mut put, mut removed_answers, mut removed_revocations) =
            (Records::default(), Vec::new(), Vec::new());
        for key in answers {
            match self.answers.slot(&key).and_then(|slot| self.answers.at(slot)) {
                Some((key, answer)) => put.decisions.push(answer.record(key)),
                None => removed_answers.push(Arc::unwrap_or_clone(key)),
            }
        }
        for user in users {
            match self.revocations.record(&user) {
                Some(record) => put.revocations.push(record),
                None => removed_revocations.push(user),
            }
        }
        Changes::Partial {
            put,
            removed_answers,
            removed_revocations,
        }
    }

    /// Makes the next [`Self::take_changes`] return all records; call it when changes were not
    /// written.
    pub fn mark_all_changed(&mut self) {
        self.changes.record_all();
    }

    fn records(&self) -> Records {
        Records {
            decisions: self
                .answers
                .iter()
                .map(|(key, answer)| answer.record(key))
                .collect(),
            revocations: self.revocations.records().collect(),
        }
    }

    /// Restores the records of an earlier process as stale answers with their true age. A record
    /// from the future gets age zero. Left out are allows and revocations that have reached
    /// `stale_ttl`, allows that are `stale_ttl` ahead of the clock, and the oldest above
    /// `max_size`. Answers and revocations that are present already stay. Returns how many answers
    /// were restored.
    pub fn restore(&mut self, records: Records, now: Now) -> usize {
        let Records {
            mut decisions,
            revocations,
        } = records;
        let (before, given) = (self.answers.len(), decisions.len());
        decisions.sort_by_key(|record| record.asked);
        for record in decisions {
            let ahead = record.asked.duration_since(now.wall).unwrap_or_default();
            let answer = CachedAnswer::restored(record.verdict, record.asked, now);
            let too_old = answer.verdict.is_allow() && answer.age(now).max(ahead) >= self.settings.stale_ttl;
            if !too_old && self.settings.max_size > 0 && self.answers.slot(&record.key).is_none() {
                self.insert(Arc::new(record.key), answer);
            }
        }
        let restored = self.answers.len().saturating_sub(before);
        if restored < given {
            self.changes.record_all();
        }
        self.revocations
            .restore(revocations, now, &self.settings, &mut self.changes);
        restored
    }

    fn insert(&mut self, key: Arc<CacheKey>, answer: CachedAnswer) {
        self.shrink_to(self.settings.max_size.saturating_sub(1));
        let ends = self.users.entry(key.username.clone()).or_default();
        let slot = self.answers.insert(key, answer);
        self.by_user.push_first(ends, slot);
    }

    fn remove_key(&mut self, key: &CacheKey) -> bool {
        self.answers.slot(key).is_some_and(|slot| {
            self.remove(slot);
            true
        })
    }

    fn remove(&mut self, slot: Slot) {
        let Some((key, _)) = self.answers.remove(slot) else {
            return;
        };
        self.changes.record_answer(&key, self.settings.max_size);
        if let Some(ends) = self.users.get_mut(&key.username) {
            self.by_user.unlink(ends, slot);
            if ends.first.is_none() {
                self.users.remove(&key.username);
            }
        }
    }

    fn shrink_to(&mut self, size: usize) {
        while self.answers.len() > size {
            let Some(slot) = self.answers.least_recent() else {
                break;
            };
            self.remove(slot);
            self.stats.evictions += 1;
        }
    }

    fn latest_of_user(&self, key: &CacheKey) -> Option<Slot> {
        let ends = self.users.get(&key.username)?;
        self.by_user.walk(*ends).find(|&slot| {
            self.answers
                .at(slot)
                .is_some_and(|(other, _)| other.same_but_address(key))
        })
    }
}
