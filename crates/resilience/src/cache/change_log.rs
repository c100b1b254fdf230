//! The entries of the cache that changed since the changes were last taken.

use std::collections::HashSet;
use std::sync::Arc;

use ocserv_agent_model::Username;

use super::key::CacheKey;

/// The changed entries. Bounded: above twice the cache's size it counts as a change of all entries.
#[derive(Debug)]
pub(super) enum ChangeLog {
    Partial {
        answers: HashSet<Arc<CacheKey>>,
        users: HashSet<Username>,
    },
    Full,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        Self::Partial {
            answers: HashSet::new(),
            users: HashSet::new(),
        }
    }

    /// Records that the answer to `key` was added, changed or removed.
    pub(super) fn record_answer(&mut self, key: &Arc<CacheKey>, max_size: usize) {
        if let Self::Partial { answers, .. } = self {
            answers.insert(Arc::clone(key));
            if answers.len() > max_size.saturating_mul(2) {
                *self = Self::Full;
            }
        }
    }

    /// Records that the revocation of `user` was added, changed or removed.
    pub(super) fn record_revocation(&mut self, user: &Username, max_size: usize) {
        if let Self::Partial { users, .. } = self {
            users.insert(user.clone());
            if users.len() > max_size.saturating_mul(2) {
                *self = Self::Full;
            }
        }
    }

    pub(super) fn record_all(&mut self) {
        *self = Self::Full;
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}
