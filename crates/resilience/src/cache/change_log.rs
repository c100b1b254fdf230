//! The entries of the cache that changed since the changes were last taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ocserv_agent_model::Username;

use super::key::CacheKey;
use super::records::{Changes, Record, Records, Revocation};

/// The changed entries. Bounded: above twice the cache's size it counts as a change of all entries.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    pub(super) answers: BTreeSet<Arc<CacheKey>>,
    pub(super) users: BTreeSet<Username>,
    /// All entries changed; those that change later are recorded above too.
    pub(super) all: bool,
}

impl ChangeLog {
    /// Records that the answer to `key` was added, changed or removed.
    pub(super) fn record_answer(&mut self, key: &Arc<CacheKey>, max_size: usize) {
        self.answers.insert(Arc::clone(key));
        self.bound(max_size);
    }

    /// Records that what denies `user` was added, changed or removed.
    pub(super) fn record_user(&mut self, user: &Username, max_size: usize) {
        self.users.insert(user.clone());
        self.bound(max_size);
    }

    pub(super) fn record_all(&mut self) {
        *self = Self {
            all: true,
            ..Self::default()
        };
    }

    fn bound(&mut self, max_size: usize) {
        if self.answers.len().max(self.users.len()) > max_size.saturating_mul(2) {
            self.record_all();
        }
    }
}

/// Collects the changes of a cache in steps, see [`Cache::collect`](super::Cache::collect).
#[derive(Debug, Default)]
pub struct ChangeCollector {
    /// Whether the collected entries are the whole content.
    pub(super) is_full: bool,
    /// Whether the copy of the whole content continues, and the last user that it has.
    pub(super) copying: bool,
    pub(super) copied: Option<Username>,
    /// `None` for an entry that was removed.
    answers: BTreeMap<Arc<CacheKey>, Option<Record>>,
    users: BTreeMap<Username, Option<Revocation>>,
}

impl ChangeCollector {
    /// Starts a copy of the whole content.
    pub(super) fn copy_all(&mut self) {
        *self = Self {
            is_full: true,
            copying: true,
            ..Self::default()
        };
    }

    pub(super) fn add_answer(&mut self, key: Arc<CacheKey>, record: Option<Record>) {
        self.answers.insert(key, record);
    }

    pub(super) fn add_user(&mut self, user: Username, record: Option<Revocation>) {
        self.users.insert(user, record);
    }

    /// Returns what was collected.
    #[must_use]
    pub fn finish(self) -> Changes {
        let (mut removed_answers, mut removed_revocations) = (Vec::new(), Vec::new());
        let mut put = Records::default();
        for (key, record) in self.answers {
            match record {
                Some(record) => put.decisions.push(record),
                None => removed_answers.push(Arc::unwrap_or_clone(key)),
            }
        }
        for (user, record) in self.users {
            match record {
                Some(record) => put.revocations.push(record),
                None => removed_revocations.push(user),
            }
        }
        if self.is_full {
            return Changes::Full(put);
        }
        Changes::Partial {
            put,
            removed_answers,
            removed_revocations,
        }
    }
}
