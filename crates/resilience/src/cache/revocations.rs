//! Users that the source revoked.
//!
//! A revocation is a deny for a user, whatever the address, group and vhost: it is never fresh, and
//! it serves in an outage for `stale_ttl`. An allow for the user lifts it in the group and vhost of
//! that allow, and in no other.

use std::time::Duration;

use ocserv_agent_model::{DenyCode, Username, Verdict};

use super::change_log::ChangeLog;
use super::key::{AccessScope, CacheKey};
use super::records::Revocation;
use super::results::StaleAnswer;
use super::settings::CacheSettings;
use crate::lru::Lru;
use crate::time::Now;

/// Most scopes per revocation in which the user was allowed again; in further scopes the user stays
/// revoked.
const MAX_SCOPES: usize = 16;

/// The revoked users; at most `max_size`, and the revocation that expires first is dropped first.
#[derive(Debug)]
pub(super) struct Revocations(Lru<Username, Revoked>);

#[derive(Debug)]
struct Revoked {
    reason: String,
    at: Now,
    allowed_since: Vec<AccessScope>,
}

impl Revocations {
    pub(super) fn new() -> Self {
        Self(Lru::new())
    }

    /// Revokes `user`; replaces an earlier revocation.
    pub(super) fn revoke(
        &mut self,
        user: &Username,
        reason: &str,
        now: Now,
        settings: &CacheSettings,
        changes: &mut ChangeLog,
    ) {
        while self.oldest_age(now).is_some_and(|age| age >= settings.stale_ttl) {
            self.drop_oldest(settings.max_size, changes);
        }
        let revoked = Revoked {
            reason: reason.to_owned(),
            at: now,
            allowed_since: Vec::new(),
        };
        self.insert(user.clone(), revoked, settings.max_size, changes);
    }

    /// Returns the deny for a login in an outage, when its user is revoked.
    pub(super) fn stale_answer(&self, key: &CacheKey, now: Now, stale_ttl: Duration) -> Option<StaleAnswer> {
        let (_, revoked) = self.0.at(self.0.slot(&key.username)?)?;
        let age = now.age_of(&revoked.at);
        let lifted = revoked.allowed_since.iter().any(|scope| key.is_in(scope));
        (age < stale_ttl && !lifted).then(|| StaleAnswer {
            verdict: Verdict::deny(DenyCode::Policy, revoked.reason.clone()),
            age,
        })
    }

    /// Records that the source allowed a login; lifts a revocation of the user in its scope.
    pub(super) fn record_allow(&mut self, key: &CacheKey, max_size: usize, changes: &mut ChangeLog) {
        let Some(revoked) = self.0.slot(&key.username).and_then(|slot| self.0.at_mut(slot)) else {
            return;
        };
        let scopes = &mut revoked.allowed_since;
        if scopes.len() < MAX_SCOPES && !scopes.iter().any(|scope| key.is_in(scope)) {
            scopes.push(key.scope());
            changes.record_revocation(&key.username, max_size);
        }
    }

    pub(super) fn shrink_to(&mut self, max_size: usize, changes: &mut ChangeLog) {
        while self.0.len() > max_size {
            self.drop_oldest(max_size, changes);
        }
    }

    /// Restores the revocations that have not expired. One from the future gets age zero and the
    /// present as its time, so that a further restart does not make it younger again.
    pub(super) fn restore(
        &mut self,
        mut records: Vec<Revocation>,
        now: Now,
        settings: &CacheSettings,
        changes: &mut ChangeLog,
    ) {
        records.sort_by_key(|record| record.at);
        for record in records {
            let at = now.at_wall(record.at.min(now.wall));
            if at.wall != record.at || now.age_of(&at) >= settings.stale_ttl {
                changes.record_revocation(&record.username, settings.max_size);
            }
            if now.age_of(&at) < settings.stale_ttl && self.0.slot(&record.username).is_none() {
                let revoked = Revoked {
                    reason: record.reason,
                    at,
                    allowed_since: record.allowed_since,
                };
                self.insert(record.username, revoked, settings.max_size, changes);
            }
        }
    }

    pub(super) fn record(&self, user: &Username) -> Option<Revocation> {
        let (user, revoked) = self.0.at(self.0.slot(user)?)?;
        Some(revoked.record(user))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Revocation> {
        self.0.iter().map(|(user, revoked)| revoked.record(user))
    }

    fn insert(&mut self, user: Username, revoked: Revoked, max_size: usize, changes: &mut ChangeLog) {
        if let Some(slot) = self.0.slot(&user) {
            self.0.remove(slot);
        }
        self.shrink_to(max_size.saturating_sub(1), changes);
        changes.record_revocation(&user, max_size);
        if max_size > 0 {
            self.0.insert(user, revoked);
        }
    }

    fn oldest_age(&self, now: Now) -> Option<Duration> {
        let (_, revoked) = self.0.at(self.0.least_recent()?)?;
        Some(now.age_of(&revoked.at))
    }

    fn drop_oldest(&mut self, max_size: usize, changes: &mut ChangeLog) {
        if let Some((user, _)) = self.0.least_recent().and_then(|slot| self.0.remove(slot)) {
            changes.record_revocation(&user, max_size);
        }
    }
}

impl Revoked {
    fn record(&self, user: &Username) -> Revocation {
        Revocation {
            username: user.clone(),
            reason: self.reason.clone(),
            at: self.at.wall,
            allowed_since: self.allowed_since.clone(),
        }
    }
}
