//! Users whom the source threw out.
//!
//! That is a deny about a user, whatever the address, group and vhost: it is never fresh, and it serves in an outage for
//! `stale_ttl`. Where the source lets her in again it is over, in that group and vhost: an allow for one of them says
//! nothing about another.

use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DenyCode, Username, Verdict};

use super::changes::Dirty;
use super::{CacheKey, CacheSettings, Place, Remembered};
use crate::lru::Lru;
use crate::time::Now;

/// How many places are noted in which a user was let in again. In one more she stays thrown out.
const MAX_PLACES: usize = 16;

/// That the source threw a user out, as it outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whom.
    pub username: Username,
    /// What for, in the source's words.
    pub reason: String,
    /// When.
    pub at: SystemTime,
    /// Where she was let in since.
    pub let_in: Vec<Place>,
}

/// The users who were thrown out; at most `max_size` of them, and the one whose time is over first goes first.
#[derive(Debug)]
pub(super) struct Revoked(Lru<Username, Ended>);

#[derive(Debug)]
struct Ended {
    reason: String,
    at: Now,
    let_in: Vec<Place>,
}

impl Revoked {
    pub(super) fn new() -> Self {
        Self(Lru::new())
    }

    /// Notes that `user` was thrown out; what was noted about her before is over.
    pub(super) fn put(
        &mut self,
        user: &Username,
        reason: &str,
        now: Now,
        settings: &CacheSettings,
        dirty: &mut Dirty,
    ) {
        while self.oldest_age(now).is_some_and(|age| age >= settings.stale_ttl) {
            self.drop_oldest(settings.max_size, dirty);
        }
        let ended = Ended {
            reason: reason.to_owned(),
            at: now,
            let_in: Vec::new(),
        };
        self.insert(user.clone(), ended, settings.max_size, dirty);
    }

    /// What serves in an outage for a login about which no answer does.
    pub(super) fn about(&self, key: &CacheKey, now: Now, stale_ttl: Duration) -> Option<Remembered> {
        let (_, ended) = self.0.at(self.0.slot(&key.username)?)?;
        let age = now.age_of(&ended.at);
        let is_over = age >= stale_ttl || ended.let_in.iter().any(|place| key.is_at(place));
        (!is_over).then(|| Remembered {
            verdict: Verdict::deny(DenyCode::Policy, ended.reason.clone()),
            age,
        })
    }

    /// The source has let a user in who may have been thrown out before.
    pub(super) fn let_in(&mut self, key: &CacheKey, max_size: usize, dirty: &mut Dirty) {
        let Some(ended) = self.0.slot(&key.username).and_then(|slot| self.0.at_mut(slot)) else {
            return;
        };
        if ended.let_in.len() < MAX_PLACES && !ended.let_in.iter().any(|place| key.is_at(place)) {
            ended.let_in.push(key.place());
            dirty.user(&key.username, max_size);
        }
    }

    pub(super) fn shrink_to(&mut self, max_size: usize, dirty: &mut Dirty) {
        while self.0.len() > max_size {
            self.drop_oldest(max_size, dirty);
        }
    }

    /// Puts back those whose time is not over. One from ahead of the clock counts from now, and from then on: a restart
    /// does not make it younger again.
    pub(super) fn restore(
        &mut self,
        mut records: Vec<Revocation>,
        now: Now,
        settings: &CacheSettings,
        dirty: &mut Dirty,
    ) {
        records.sort_by_key(|record| record.at);
        for record in records {
            let at = now.earlier(record.at.min(now.wall));
            if at.wall != record.at || now.age_of(&at) >= settings.stale_ttl {
                dirty.user(&record.username, settings.max_size);
            }
            if now.age_of(&at) < settings.stale_ttl && self.0.slot(&record.username).is_none() {
                let ended = Ended {
                    reason: record.reason,
                    at,
                    let_in: record.let_in,
                };
                self.insert(record.username, ended, settings.max_size, dirty);
            }
        }
    }

    pub(super) fn record(&self, user: &Username) -> Option<Revocation> {
        let (user, ended) = self.0.at(self.0.slot(user)?)?;
        Some(ended.record(user))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Revocation> {
        self.0.iter().map(|(user, ended)| ended.record(user))
    }

    fn insert(&mut self, user: Username, ended: Ended, max_size: usize, dirty: &mut Dirty) {
        if let Some(slot) = self.0.slot(&user) {
            self.0.remove(slot);
        }
        self.shrink_to(max_size.saturating_sub(1), dirty);
        dirty.user(&user, max_size);
        if max_size > 0 {
            self.0.insert(user, ended);
        }
    }

    fn oldest_age(&self, now: Now) -> Option<Duration> {
        let (_, ended) = self.0.at(self.0.least_recent()?)?;
        Some(now.age_of(&ended.at))
    }

    fn drop_oldest(&mut self, max_size: usize, dirty: &mut Dirty) {
        if let Some((user, _)) = self.0.least_recent().and_then(|slot| self.0.remove(slot)) {
            dirty.user(&user, max_size);
        }
    }
}

impl Ended {
    fn record(&self, user: &Username) -> Revocation {
        Revocation {
            username: user.clone(),
            reason: self.reason.clone(),
            at: self.at.wall,
            let_in: self.let_in.clone(),
        }
    }
}
