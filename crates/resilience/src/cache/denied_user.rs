//! Users that the source denied or revoked.
//!
//! The client chooses its address, its group and its virtual host. So a deny is also kept about the
//! user: in an outage it denies every login of the user that has no allow of its own, until the
//! source allows the user again. An allow says something about its group and virtual host only; in
//! others the user stays denied.

use std::time::Duration;

use ocserv_agent_model::{DenyCode, Username, Verdict};

use super::key::{AccessScope, CacheKey};
use super::records::Revocation;
use super::results::StaleAnswer;
use crate::time::Now;

/// Most scopes of each kind per user. A user who was denied in as many stays denied in all in which
/// no allow is on record: there may have been more.
const MAX_SCOPES: usize = 16;
/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 512;

/// Why and where one user is denied in outages.
#[derive(Debug)]
pub(super) struct DeniedUser {
    reason: String,
    /// When the source denied or revoked the user last.
    at: Now,
    /// When the source revoked the user last; counts for `stale_ttl`.
    revoked_at: Option<Now>,
    /// The scopes in which the source denied the user and has not allowed them since; while there
    /// is one, the user is denied in others too.
    denied_in: Vec<AccessScope>,
    /// The scopes in which the source has allowed the user since.
    allowed_since: Vec<AccessScope>,
}

impl DeniedUser {
    pub(super) fn new(at: Now) -> Self {
        Self {
            reason: String::new(),
            at,
            revoked_at: None,
            denied_in: Vec::new(),
            allowed_since: Vec::new(),
        }
    }

    /// Records that the source denied a login of the user.
    pub(super) fn deny(&mut self, scope: AccessScope, reason: &str, at: Now) {
        self.set(reason, at);
        if self.denied_in.len() < MAX_SCOPES && !self.denied_in.contains(&scope) {
            self.denied_in.push(scope);
        }
    }

    /// Records that the source revoked the user.
    pub(super) fn revoke(&mut self, reason: &str, at: Now) {
        self.set(reason, at);
        self.revoked_at = Some(at);
    }

    /// Records that the source allowed a login that it was asked about at `asked`. Returns whether
    /// that changed anything.
    pub(super) fn allow(&mut self, key: &CacheKey, asked: Now) -> bool {
        if asked.mono < self.at.mono {
            return false;
        }
        let denied = self.denied_in.len();
        if denied < MAX_SCOPES {
            self.denied_in.retain(|scope| !key.is_in(scope));
        }
        let is_new = !self.allowed_since.iter().any(|scope| key.is_in(scope));
        let is_added = is_new && self.allowed_since.len() < MAX_SCOPES;
        if is_added {
            self.allowed_since.push(key.scope());
        }
        is_added || self.denied_in.len() < denied
    }

    /// Whether the source has allowed the user in the scope of `key` since.
    pub(super) fn is_allowed_since(&self, key: &CacheKey) -> bool {
        self.allowed_since.iter().any(|scope| key.is_in(scope))
    }

    /// Whether no login is denied any more.
    pub(super) fn is_over(&self, now: Now, stale_ttl: Duration) -> bool {
        let is_revoked = self.revoked_at.is_some_and(|at| now.age_of(&at) < stale_ttl);
        self.denied_in.is_empty() && !is_revoked
    }

    /// Returns the deny for a login in an outage.
    pub(super) fn stale_answer(&self, key: &CacheKey, now: Now, stale_ttl: Duration) -> Option<StaleAnswer> {
        (!self.is_allowed_since(key) && !self.is_over(now, stale_ttl)).then(|| StaleAnswer {
            verdict: Verdict::deny(DenyCode::Policy, self.reason.clone()),
            age: now.age_of(&self.at),
        })
    }

    pub(super) fn record(&self, username: &Username) -> Revocation {
        Revocation {
            username: username.clone(),
            reason: self.reason.clone(),
            at: self.at.wall,
            revoked_at: self.revoked_at.map(|at| at.wall),
            denied_in: self.denied_in.clone(),
            allowed_since: self.allowed_since.clone(),
        }
    }

    /// Restores a record. One from the future gets age zero and the present as its time, so that a
    /// further restart does not make it younger again.
    pub(super) fn restored(record: Revocation, now: Now) -> Self {
        let at = |at: std::time::SystemTime| now.at_wall(at.min(now.wall));
        Self {
            reason: record.reason,
            at: at(record.at),
            revoked_at: record.revoked_at.map(at),
            denied_in: record.denied_in,
            allowed_since: record.allowed_since,
        }
    }

    fn set(&mut self, reason: &str, at: Now) {
        if at.mono >= self.at.mono {
            self.at = at;
            reason[..reason.floor_char_boundary(MAX_REASON)].clone_into(&mut self.reason);
        }
        self.allowed_since.clear();
    }
}
