//! The cache of decisions: the policy source's answers, fresh or for use in an outage.
//!
//! An answer is **fresh** for its TTL, counted from the start of the query. The fresh path
//! ([`Cache::lookup`]) returns verdicts of fresh answers only; of a stale one it returns no more
//! than its age. Verdicts of stale answers come from [`Cache::stale_answer`] alone, which the
//! pipeline calls in an outage:
//!
//! - a deny serves for as long as it is in the cache, so that no outage turns it into an allow;
//! - an allow serves while it is younger than `stale_ttl`;
//! - with [`StaleMatch::User`] the latest decision for the same user, group and vhost serves, from
//!   whatever address; a deny for exactly this login takes precedence;
//! - where this login has no allow of its own, a user whom the source denied, or
//!   [revoked](Cache::revoke_user) less than `stale_ttl` ago, is denied, whatever the address,
//!   group and vhost, except in a group and vhost in which the source has allowed the user since.
//!
//! **Bounds.** Allows and denies have `max_size` each, and users that are denied have another, so
//! that no number of allows evicts a deny. A user has at most `max_per_user` allows and as many
//! denies. A deny that is evicted denies its user instead; where there is no room for that either,
//! [`Cache::forgot_denies`] is true from then on, also after a restart with the same bound.
//!
//! Time: see [`Now::since`]. An answer from the wall clock's future (the clock was set back) is
//! stale. An answer that was [restored](Cache::restore) is stale too, however young: between the
//! last write and the end of the process it may have been revoked, so after a restart the source is
//! asked again.
//!
//! Every answer belongs to a [`Query`]; one from before an invalidation that covers it is not
//! stored.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Username, Verdict};

use crate::time::Now;

mod answer;
mod answers;
mod change_log;
mod denied_user;
mod entries;
mod invalidations;
mod key;
mod persistence;
mod query;
mod records;
mod results;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod users;

pub use change_log::ChangeCollector;
pub use invalidations::Epoch;
pub use key::{AccessScope, CacheKey};
pub use query::Query;
pub use records::{Changes, Record, Records, Revocation};
pub use results::{Hit, Lookup, StaleAnswer, StoreResult};
pub use settings::{CacheSettings, StaleMatch, Ttl};
pub use stats::CacheStats;

use answer::CachedAnswer;
use answers::Answers;
use change_log::ChangeLog;
use invalidations::Invalidations;
use users::{IndexedKey, Users};

/// Users that one step of [`Cache::sweep`] visits.
const SWEEP_STEP: usize = 64;

/// A cache of decisions.
#[derive(Debug)]
pub struct Cache {
    settings: CacheSettings,
    allows: Answers,
    denies: Answers,
    users: Users,
    /// The last user that was swept; `None` at the start of a round.
    swept: Option<Username>,
    has_forgotten: bool,
    lacks_records: bool,
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
            allows: Answers::new(settings.max_size),
            denies: Answers::new(settings.max_size),
            users: Users::default(),
            swept: None,
            has_forgotten: false,
            lacks_records: false,
            invalidations: Invalidations::new(),
            changes: ChangeLog::default(),
            stats: CacheStats::default(),
        }
    }

    /// Looks for a fresh answer to `key`.
    pub fn lookup(&mut self, key: &CacheKey, now: Now) -> Lookup<'_> {
        let Some(answer) = self.allows.get(key).or_else(|| self.denies.get(key)) else {
            self.stats.misses += 1;
            return Lookup::Missing;
        };
        match (now.since(&answer.asked), answer.ttl) {
            (Some(age), Some(ttl)) if age < ttl => {
                self.stats.hits += 1;
                let is_due = age >= ttl - ttl / 5;
                Lookup::Fresh(Hit {
                    verdict: &answer.verdict,
                    age,
                    refresh: is_due && !answer.refreshed.replace(is_due),
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
        let stale_ttl = self.settings.stale_ttl;
        let serving = |answer: &&CachedAnswer| answer.serves_in_outage(now, stale_ttl);
        let exact = self
            .allows
            .get(key)
            .or_else(|| self.denies.get(key))
            .filter(serving);
        let chosen = match self.settings.stale_match {
            StaleMatch::User if exact.is_none_or(|answer| answer.verdict.is_allow()) => {
                self.latest_in_scope(key).filter(serving)
            }
            StaleMatch::Exact | StaleMatch::User => exact,
        };
        let user = self.users.get(&key.username);
        let denied = user.and_then(|user| user.denied.as_ref()?.stale_answer(key, now, stale_ttl));
        let needs_exact = denied.is_some() || self.has_forgotten || self.lacks_records;
        let chosen = chosen.filter(|answer| !answer.verdict.is_allow() || exact.is_some() || !needs_exact);
        let answer = chosen.map(|answer| StaleAnswer {
            verdict: answer.verdict.clone(),
            age: answer.age(now),
        });
        let answer = answer.or(denied);
        self.stats.stale_hits += u64::from(answer.is_some());
        answer
    }

    /// Whether a deny had to be forgotten, so that nothing is known of a user without an answer.
    #[must_use]
    pub fn forgot_denies(&self) -> bool {
        self.has_forgotten
    }

    /// Sets whether records of an earlier process are not known here: not restored yet, or lost.
    /// There may be denies among them.
    pub fn set_lacks_records(&mut self, lacks_records: bool) {
        self.lacks_records = lacks_records;
    }

    /// Whether [`Self::set_lacks_records`] says so.
    #[must_use]
    pub fn lacks_records(&self) -> bool {
        self.lacks_records
    }

    /// Whether the source has not allowed the user of `key` in its group and vhost since it denied
    /// or revoked the user last.
    #[must_use]
    pub fn deny_stands(&self, key: &CacheKey) -> bool {
        let user = self.users.get(&key.username);
        match user.and_then(|user| user.denied.as_ref()) {
            Some(denied) => !denied.is_allowed_since(key),
            // An allow has ended the deny, or there was no room for it.
            None => self.has_forgotten,
        }
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
        let Query { key, asked, epoch } = query;
        if self.invalidated_since(&key, epoch) {
            return StoreResult::Invalidated;
        }
        if self
            .peek(&key)
            .is_some_and(|answer| answer.asked.mono > asked.mono)
        {
            return StoreResult::NotStored;
        }
        let default = match &verdict {
            Verdict::Allow(_) => {
                self.allow_user(&key, asked);
                self.settings.ttl
            }
            Verdict::Deny(denial) => {
                self.deny_user(&key, &denial.reason, asked);
                self.settings.deny_ttl
            }
        };
        let ttl = match ttl {
            Ttl::For(ttl) => ttl.min(self.settings.max_ttl),
            Ttl::Default => default.min(self.settings.max_ttl),
            Ttl::Zero => Duration::ZERO,
        };
        // A deny with a TTL of zero is stored all the same: no outage may turn it into an allow.
        if ttl.is_zero() && verdict.is_allow() {
            self.remove(&key);
            return StoreResult::NotStored;
        }
        self.changes.record_answer(&key, self.settings.max_size);
        let answer = CachedAnswer::new(&key, verdict, asked, Some(ttl));
        match self.insert(&key, answer) {
            true => StoreResult::Stored,
            false => StoreResult::NotStored,
        }
    }

    /// Revokes `user`: drops allows, expires denies, denies in outages until `stale_ttl` or a new
    /// allow. Returns how many answers there were.
    pub fn revoke_user(&mut self, user: &Username, reason: &str, now: Now) -> usize {
        let answers = self.invalidate_user(user);
        self.change_denied(user, now, |denied| denied.revoke(reason, now));
        answers
    }

    /// Drops the allows of `user` and expires the denies, which serve in outages all the same.
    /// Returns how many answers there were.
    pub fn invalidate_user(&mut self, user: &Username) -> usize {
        self.invalidations.record(user.clone());
        self.expire_answers(user)
    }

    /// Makes every answer of an earlier query unusable; the answers that are cached are dropped by
    /// [`Self::drop_invalidated`].
    pub fn invalidate_all(&mut self) {
        self.invalidations.record_all();
    }

    /// Drops and expires the answers of the 64 users after `user`, as [`Self::invalidate_user`]
    /// does. Returns how many answers there were, and the last of these users, unless all are
    /// done.
    pub fn drop_invalidated(&mut self, user: Option<&Username>) -> (usize, Option<Username>) {
        let users = self.users.after(user).take(SWEEP_STEP);
        let users: Vec<Username> = users.map(|(username, _)| username.clone()).collect();
        let answers = users.iter().map(|user| self.expire_answers(user)).sum();
        (answers, users.last().cloned())
    }

    fn expire_answers(&mut self, user: &Username) -> usize {
        let keys = self.users.answers(user).to_vec();
        for IndexedKey { key, is_allow } in &keys {
            if *is_allow {
                self.remove(key);
            } else {
                self.denies.expire(key);
            }
        }
        keys.len()
    }

    /// Replaces the settings. TTLs and `max_per_user` apply to later answers; `stale_ttl`,
    /// `stale_match` and `max_size` apply at once.
    pub fn configure(&mut self, settings: CacheSettings) {
        let is_resized = settings.max_size != self.settings.max_size;
        self.settings = settings;
        if !is_resized {
            return;
        }
        for is_allow in [true, false] {
            let mut answers = self.answers_mut(is_allow).take_all();
            let surplus = answers.split_off(answers.len().min(settings.max_size));
            self.handle_evicted(surplus);
            *self.answers_mut(is_allow) = Answers::new(settings.max_size);
            for (key, answer) in answers {
                let evicted = self.answers_mut(is_allow).insert(&key, answer);
                self.handle_evicted(evicted);
            }
        }
    }

    /// Removes what decides no login any more of the next 64 users. Returns whether the round goes
    /// on; the next call after its end starts another.
    pub fn sweep(&mut self, now: Now) -> bool {
        let stale_ttl = self.settings.stale_ttl;
        let (mut answers, mut users) = (Vec::new(), Vec::new());
        let mut last = None;
        for (visited, (username, user)) in self.users.after(self.swept.as_ref()).enumerate() {
            if visited == SWEEP_STEP {
                break;
            }
            let keys = user.answers.iter().filter(|answer| answer.is_allow);
            let is_past_use = |key: &&Arc<CacheKey>| {
                let answer = self.allows.peek(key);
                answer.is_none_or(|answer| answer.is_past_use(now, stale_ttl))
            };
            answers.extend(keys.map(|answer| &answer.key).filter(is_past_use).cloned());
            let denied = user.denied.as_ref().filter(|_| !self.has_forgotten);
            if denied.is_some_and(|denied| denied.is_over(now, stale_ttl)) {
                users.push(username.clone());
            }
            last = (visited + 1 == SWEEP_STEP).then(|| username.clone());
        }
        for key in answers {
            self.remove(&key);
        }
        for user in users {
            self.users.remove_denied(&user);
            self.changes.record_user(&user, self.settings.max_size);
        }
        self.swept = last;
        self.swept.is_some()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            size: self.size(),
            denied_users: self.users.denied_count(),
            ..self.stats
        }
    }
}
