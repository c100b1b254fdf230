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
//!   a deny about exactly this login counts nevertheless.
//!
//! Time: see [`Now::since`]. An answer from after the wall clock's present (the clock was set back) is stale. An answer
//! that was [restored](Cache::restore) is stale too, however young: between the last write and the end of the process
//! it may have been revoked, so after a restart the source is asked again.
//!
//! Every answer belongs to a [`Question`]; one from before an invalidation that concerns it is not stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Username, Verdict};

use crate::lru::{Ends, Links, Lru, Slot};
use crate::time::Now;

mod changes;
mod key;
mod question;
mod settings;
#[cfg(test)]
mod tests;

pub use changes::{Changes, Record};
pub use key::CacheKey;
pub use question::Question;
pub use settings::{CacheSettings, StaleMatch, Ttl};

use changes::Dirty;
use question::{Invalidations, Scope};

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

/// An answer that serves in an outage.
#[derive(Debug, PartialEq, Eq)]
pub struct Remembered<'a> {
    /// What the source said.
    pub verdict: &'a Verdict,
    /// How long ago it was asked.
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

/// What a cache counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found a fresh answer.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Answers that served in an outage.
    pub stale_hits: u64,
    /// Answers that went to make room.
    pub evictions: u64,
    /// Answers in the cache.
    pub size: usize,
}

impl CacheStats {
    /// Hits among all lookups, from 0 to 1; 0 before the first lookup.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

#[derive(Debug)]
struct Answer {
    verdict: Verdict,
    asked: Now,
    /// How long it is fresh; `None` for one that was restored.
    ttl: Option<Duration>,
    refreshed: bool,
}

/// A cache of decisions.
#[derive(Debug)]
pub struct Cache {
    settings: CacheSettings,
    answers: Lru<Arc<CacheKey>, Answer>,
    /// The answers of each user, the one stored last first.
    users: HashMap<Username, Ends>,
    by_user: Links,
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

    /// The answer that serves for `key` while the source is gone. Ask only after the source was tried or the breaker
    /// refused.
    pub fn remembered(&mut self, key: &CacheKey, now: Now) -> Option<Remembered<'_>> {
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
        let age = answer.age(now);
        if answer.verdict.is_allow() && age >= self.settings.stale_ttl {
            return None;
        }
        self.answers.touch(slot);
        self.stats.stale_hits += 1;
        let (_, answer) = self.answers.at(slot)?;
        Some(Remembered {
            verdict: &answer.verdict,
            age,
        })
    }

    /// Begins a question about `key`; its answer is stored by [`Cache::store`].
    #[must_use]
    pub fn ask(&self, key: CacheKey, now: Now) -> Question {
        Question {
            key: Arc::new(key),
            asked: now,
            seen: self.invalidations.count(),
        }
    }

    /// Stores the answer to `question`.
    pub fn store(&mut self, question: Question, verdict: Verdict, ttl: Ttl) -> Stored {
        if self.invalidations.concern(&question) {
            return Stored::Invalidated;
        }
        let known = self
            .answers
            .slot(&question.key)
            .and_then(|slot| self.answers.at(slot));
        if known.is_some_and(|(_, answer)| answer.asked.mono > question.asked.mono) {
            return Stored::NotKept;
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
        self.dirty.touch(&question.key, self.settings.max_size);
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

    /// Has `user` decided anew; says how many answers there were. A deny is never fresh again but keeps her out in an outage.
    pub fn invalidate_user(&mut self, user: &Username) -> usize {
        self.invalidations.note(Scope::User(user.clone()));
        let ends = self.users.get(user);
        let slots: Vec<Slot> = ends.map_or_else(Vec::new, |ends| self.by_user.walk(*ends).collect());
        for &slot in &slots {
            match self.answers.at_mut(slot) {
                Some(answer) if !answer.verdict.is_allow() => answer.ttl = Some(Duration::ZERO),
                _ => self.remove(slot),
            }
        }
        slots.len()
    }

    /// Drops every answer; says how many there were.
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
        self.dirty.take(&self.answers)
    }

    /// What [`Self::take_changes`] gave was not written: it gives everything the next time.
    pub fn changes_lost(&mut self) {
        self.dirty.all();
    }

    /// Puts back what an earlier process knew, as stale answers with their true age. Where the wall clock stands before
    /// a record, its age is unknown and counts from now. Allows that are too old to serve are left out, or as far ahead
    /// of the clock, and so is whatever is over `max_size`, oldest first. Says how many came back. Answers that are here already stay.
    pub fn restore(&mut self, mut records: Vec<Record>, now: Now) -> usize {
        let (before, given) = (self.answers.len(), records.len());
        records.sort_by_key(|record| record.asked);
        for Record { key, verdict, asked } in records {
            let age = now.wall.duration_since(asked).unwrap_or_default();
            let mono = now.mono.checked_sub(age).unwrap_or(now.mono);
            let ahead = asked.duration_since(now.wall).unwrap_or_default();
            let too_old = verdict.is_allow() && age.max(ahead) >= self.settings.stale_ttl;
            if !too_old && self.settings.max_size > 0 && self.answers.slot(&key).is_none() {
                let asked = Now { mono, wall: asked };
                self.put(
                    Arc::new(key),
                    Answer {
                        verdict,
                        asked,
                        ttl: None,
                        refreshed: false,
                    },
                );
            }
        }
        let came_back = self.answers.len().saturating_sub(before);
        if came_back < given {
            self.dirty.all();
        }
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
        self.dirty.touch(&key, self.settings.max_size);
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

impl Answer {
    /// The age, as well as it can be known: without the wall clock where that was set back.
    fn age(&self, now: Now) -> Duration {
        now.since(&self.asked)
            .unwrap_or_else(|| now.mono.saturating_duration_since(self.asked.mono))
    }

    fn record(&self, key: &CacheKey) -> Record {
        Record {
            key: key.clone(),
            verdict: self.verdict.clone(),
            asked: self.asked.wall,
        }
    }
}
