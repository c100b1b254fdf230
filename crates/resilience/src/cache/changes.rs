//! What a copy of the cache on disk has to learn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use ocserv_agent_model::{Username, Verdict};

use super::revoked::Revoked;
use super::{Answer, CacheKey, Revocation};
use crate::lru::Lru;

/// One answer, as it outlives the process. It has no TTL: what comes back from disk is never fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: CacheKey,
    /// What the source said.
    pub verdict: Verdict,
    /// When the source was asked.
    pub asked: SystemTime,
}

/// What outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// What the source said about logins.
    pub decisions: Vec<Record>,
    /// Whom it threw out.
    pub revocations: Vec<Revocation>,
}

/// What happened to the cache since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These came or changed, those went.
    Some {
        /// What to write.
        put: Records,
        /// Answers to delete.
        removed: Vec<CacheKey>,
        /// Users whose revocations to delete.
        lifted: Vec<Username>,
    },
    /// So much that the whole content is given: whatever else the copy has is to go.
    All(Records),
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self::Some { put, removed, lifted } = self else {
            return false;
        };
        *put == Records::default() && removed.is_empty() && lifted.is_empty()
    }
}

/// What changed. Bounded: past twice the cache's size it remembers only that everything may have changed.
#[derive(Debug)]
pub(super) enum Dirty {
    Some {
        answers: HashSet<Arc<CacheKey>>,
        users: HashSet<Username>,
    },
    All,
}

impl Dirty {
    pub(super) fn new() -> Self {
        Self::Some {
            answers: HashSet::new(),
            users: HashSet::new(),
        }
    }

    /// The answer about `key` came, changed or went.
    pub(super) fn answer(&mut self, key: &Arc<CacheKey>, max_size: usize) {
        if let Self::Some { answers, .. } = self {
            answers.insert(Arc::clone(key));
            if answers.len() > max_size.saturating_mul(2) {
                *self = Self::All;
            }
        }
    }

    /// The revocation of `user` came, changed or went.
    pub(super) fn user(&mut self, user: &Username, max_size: usize) {
        if let Self::Some { users, .. } = self {
            users.insert(user.clone());
            if users.len() > max_size.saturating_mul(2) {
                *self = Self::All;
            }
        }
    }

    pub(super) fn all(&mut self) {
        *self = Self::All;
    }

    pub(super) fn take(&mut self, known: &Lru<Arc<CacheKey>, Answer>, revoked: &Revoked) -> Changes {
        let (answers, users) = match std::mem::replace(self, Self::new()) {
            Self::Some { answers, users } => (answers, users),
            Self::All => {
                return Changes::All(Records {
                    decisions: known.iter().map(|(key, answer)| answer.record(key)).collect(),
                    revocations: revoked.records().collect(),
                });
            }
        };
        let (mut put, mut removed, mut lifted) = (Records::default(), Vec::new(), Vec::new());
        for key in answers {
            match known.slot(&key).and_then(|slot| known.at(slot)) {
                Some((key, answer)) => put.decisions.push(answer.record(key)),
                None => removed.push(Arc::unwrap_or_clone(key)),
            }
        }
        for user in users {
            match revoked.record(&user) {
                Some(record) => put.revocations.push(record),
                None => lifted.push(user),
            }
        }
        Changes::Some { put, removed, lifted }
    }
}
