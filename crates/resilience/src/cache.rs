//! The cache of decisions: what the source said about a login, for how long that is true, and for how long it may
//! still be used while the source is gone.
//!
//! An answer is **fresh** for its TTL, counted from the moment the question was asked. The fresh path
//! ([`Cache::lookup`]) gives verdicts of fresh answers only; of a stale one it says no more than its age. Verdicts of
//! stale answers come from [`Cache::remembered`] alone, which the pipeline calls in an outage:
//!
//! - an allow is remembered while it is younger than `stale_ttl`;
//! - a deny is remembered for as long as it is in the cache, so that no outage turns it into an allow;
//! - with [`StaleMatch::User`] the last decision about the same user, group and vhost counts, from whatever address;
//!   a deny about exactly this login counts nevertheless;
//! - where no answer serves, a user who was [thrown out](Cache::revoke_user) less than `stale_ttl` ago is denied, from
//!   whatever address, except in the group and vhost in which the source has let her in since.
//!
//! Time: see [`Now::since`]. An answer from after the wall clock's present (the clock was set back) is stale. An answer
//! that was [restored](Cache::restore) is stale too, however young: between the last write and the end of the process
//! it may have been revoked, so after a restart the source is asked again.
//!
//! Every answer belongs to a [`Question`]; one from before an invalidation that concerns it is not stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Username, Verdict};

use crate::lru::{Ends, Links, Lru, Slot};
use crate::time::Now;

mod answer;
mod changes;
mod key;
mod question;
mod revoked;
mod settings;
mod stats;
#[cfg(test)]
mod tests;

pub use changes::{Changes, Record, Records};
pub use key::{CacheKey, Place};
pub use question::{Mark, Question};
pub use revoked::Revocation;
pub use settings::{CacheSettings, StaleMatch, Ttl};
pub use stats::CacheStats;

use answer::Answer;
use changes::Dirty;
use question::{Invalidations, Scope};
use revoked::Revoked;

/// What the fresh path may know.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// An answer that holds.
    Fresh(Hit<'a>),
    /// There is an answer, but it no longer holds: ask the source.
    Stale {
        /// How old it is.
        age: Duration,
    },
    /// Nothing is known.
    Missing,
}

/// An answer that holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// What the source said.
    pub verdict: &'a Verdict,
    /// How long ago it was asked.
    pub age: Duration,
    /// The answer is in the last fifth of its time: ask the source in the background. True once per answer, so a
    /// refresh that fails or is lost is not repeated; the answer then ends with its TTL.
    pub refresh: bool,
}

/// What serves in an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What the source said.
    pub verdict: Verdict,
    /// How long ago it was asked, or said so unasked.
    pub age: Duration,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is in the cache.
    Kept,
    /// The source or the settings do not want it kept, or there is an answer to a later question.
    NotKept,
    /// Its question was asked before an invalidation: it decides nothing any more.
    Invalidated,
}

/// A cache of decisions.
#[derive(Debug)]
pub struct Cache {
    settings: CacheSettings,
    answers: Lru<Arc<CacheKey>, Answer>,
    /// The answers of each user, the one stored last first.
    users: HashMap<Username, Ends>,
    by_user: Links,
    revoked: Revoked,
    invalidations: Invalidations,
    dirty: Dirty,
    stats: CacheStats,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            answers: Lru::new(),
            users: HashMap::new(),
            by_user: Links::default(),
            revoked: Revoked::new(),
            invalidations: Invalidations::new(),
            dirty: Dirty::new(),
            stats: CacheStats::default(),
        }
    }

    /// Looks for a fresh answer about `key`.
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

    /// What serves for `key` while the source is gone. Ask only after the source was tried or the breaker refused.
    pub fn remembered(&mut self, key: &CacheKey, now: Now) -> Option<Remembered> {
        let serves = match self.answer_in_outage(key, now) {
            Some(slot) => {
                self.answers.touch(slot);
                let (_, answer) = self.answers.at(slot)?;
                Some(Remembered {
                    verdict: answer.verdict.clone(),
                    age: answer.age(now),
                })
            }
            None => self.revoked.about(key, now, self.settings.stale_ttl),
        };
        self.stats.stale_hits += u64::from(serves.is_some());
        serves
    }

    fn answer_in_outage(&self, key: &CacheKey, now: Now) -> Option<Slot> {
        let exact = self.answers.slot(key);
        let slot = match self.settings.stale_match {
            StaleMatch::Exact => exact,
            StaleMatch::User => {
                let denied =
                    exact.filter(|&slot| self.answers.at(slot).is_some_and(|(_, a)| !a.verdict.is_allow()));
                denied.or_else(|| self.last_of_user(key))
            }
        }?;
        let (_, answer) = self.answers.at(slot)?;
        let serves = !answer.verdict.is_allow() || answer.age(now) < self.settings.stale_ttl;
        serves.then_some(slot)
    }

    /// Begins a question about `key`; its answer is stored by [`Cache::store`].
    #[must_use]
    pub fn ask(&self, key: CacheKey, now: Now) -> Question {
        Question {
            key: Arc::new(key),
            asked: now,
            mark: self.mark(),
        }
    }

    /// The present, for [`Self::is_overtaken`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.invalidations.mark()
    }

    /// Whether an invalidation since `mark` is about `key`: what was found by then decides nothing any more.
    #[must_use]
    pub fn is_overtaken(&self, key: &CacheKey, mark: Mark) -> bool {
        self.invalidations.concern(key, mark)
    }

    /// Stores the answer to `question`.
    pub fn store(&mut self, question: Question, verdict: Verdict, ttl: Ttl) -> Stored {
        if self.is_overtaken(&question.key, question.mark) {
            return Stored::Invalidated;
        }
        let known = self
            .answers
            .slot(&question.key)
            .and_then(|slot| self.answers.at(slot));
        if known.is_some_and(|(_, answer)| answer.asked.mono > question.asked.mono) {
            return Stored::NotKept;
        }
        if verdict.is_allow() {
            self.revoked
                .let_in(&question.key, self.settings.max_size, &mut self.dirty);
        }
        let ttl = match (ttl, &verdict) {
            (Ttl::For(ttl), _) => ttl,
            (Ttl::Default, Verdict::Allow(_)) => self.settings.ttl,
            (Ttl::Default, Verdict::Deny(_)) => self.settings.deny_ttl,
            (Ttl::DoNotCache, _) => Duration::ZERO,
        };
        let ttl = ttl.min(self.settings.max_ttl);
        // A deny that must not serve again is remembered all the same: no outage turns it into an allow.
        self.forget(&question.key);
        if (ttl.is_zero() && verdict.is_allow()) || self.settings.max_size == 0 {
            return Stored::NotKept;
        }
        self.dirty.answer(&question.key, self.settings.max_size);
        self.put(
            question.key,
            Answer {
                verdict,
                asked: question.asked,
                ttl: Some(ttl),
                refreshed: false,
            },
        );
        Stored::Kept
    }

    /// Drops the answer about `key`; says how many there were.
    pub fn invalidate_key(&mut self, key: &CacheKey) -> usize {
        self.invalidations.note(Scope::Key(key.clone()));
        usize::from(self.forget(key))
    }

    /// Throws `user` out, for this reason: she is decided anew, and an outage keeps her out until the source has let her
    /// in. Says how many answers there were. Her allows go; a deny stays, but is never fresh again.
    pub fn revoke_user(&mut self, user: &Username, reason: &str, now: Now) -> usize {
        self.invalidations.note(Scope::User(user.clone()));
        let ends = self.users.get(user);
        let slots: Vec<Slot> = ends.map_or_else(Vec::new, |ends| self.by_user.walk(*ends).collect());
        for &slot in &slots {
            match self.answers.at_mut(slot) {
                Some(answer) if !answer.verdict.is_allow() => answer.ttl = Some(Duration::ZERO),
                _ => self.remove(slot),
            }
        }
        self.revoked
            .put(user, reason, now, &self.settings, &mut self.dirty);
        slots.len()
    }

    /// Drops every answer; says how many there were. Who was thrown out stays so.
    pub fn invalidate_all(&mut self) -> usize {
        self.invalidations.note(Scope::All);
        let dropped = self.answers.len();
        self.answers = Lru::new();
        self.users.clear();
        self.by_user = Links::default();
        self.dirty.all();
        dropped
    }

    /// Takes new settings. They hold for answers that come from now on; `stale_ttl`, `stale_match` and `max_size` hold
    /// at once.
    pub fn configure(&mut self, settings: CacheSettings) {
        self.settings = settings;
        self.shrink_to(settings.max_size);
        self.revoked.shrink_to(settings.max_size, &mut self.dirty);
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            size: self.answers.len(),
            ..self.stats
        }
    }

    /// What changed since the last time this was asked: what a copy on disk has to learn.
    pub fn take_changes(&mut self) -> Changes {
        self.dirty.take(&self.answers, &self.revoked)
    }

    /// What [`Self::take_changes`] gave was not written: it gives everything the next time.
    pub fn changes_lost(&mut self) {
        self.dirty.all();
    }

    /// Puts back what an earlier process knew, as stale answers with their true age. Where the wall clock stands before
    /// a record, its age is unknown and counts from now. Allows that are too old to serve are left out, or as far ahead
    /// of the clock, and so are revocations that are too old, and whatever is over `max_size`, oldest first. Says how
    /// many answers came back. Answers and revocations that are here already stay.
    pub fn restore(&mut self, records: Records, now: Now) -> usize {
        let Records {
            mut decisions,
            revocations,
        } = records;
        let (before, given) = (self.answers.len(), decisions.len());
        decisions.sort_by_key(|record| record.asked);
        for record in decisions {
            let ahead = record.asked.duration_since(now.wall).unwrap_or_default();
            let answer = Answer::restored(record.verdict, record.asked, now);
            let too_old = answer.verdict.is_allow() && answer.age(now).max(ahead) >= self.settings.stale_ttl;
            if !too_old && self.settings.max_size > 0 && self.answers.slot(&record.key).is_none() {
                self.put(Arc::new(record.key), answer);
            }
        }
        let came_back = self.answers.len().saturating_sub(before);
        if came_back < given {
            self.dirty.all();
        }
        self.revoked
            .restore(revocations, now, &self.settings, &mut self.dirty);
        came_back
    }

    fn put(&mut self, key: Arc<CacheKey>, answer: Answer) {
        self.shrink_to(self.settings.max_size.saturating_sub(1));
        let ends = self.users.entry(key.username.clone()).or_default();
        let slot = self.answers.insert(key, answer);
        self.by_user.push_first(ends, slot);
    }

    fn forget(&mut self, key: &CacheKey) -> bool {
        self.answers.slot(key).is_some_and(|slot| {
            self.remove(slot);
            true
        })
    }

    fn remove(&mut self, slot: Slot) {
        let Some((key, _)) = self.answers.remove(slot) else {
            return;
        };
        self.dirty.answer(&key, self.settings.max_size);
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

    fn last_of_user(&self, key: &CacheKey) -> Option<Slot> {
        let ends = self.users.get(&key.username)?;
        self.by_user.walk(*ends).find(|&slot| {
            self.answers
                .at(slot)
                .is_some_and(|(other, _)| other.same_but_address(key))
        })
    }
}
