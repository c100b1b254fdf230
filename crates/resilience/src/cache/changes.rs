//! What a copy of the cache on disk has to learn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use model::Verdict;

use super::{Answer, CacheKey};
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

/// What happened to the cache since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These came or changed, those went.
    Some {
        /// Answers to write.
        put: Vec<Record>,
        /// Answers to delete.
        removed: Vec<CacheKey>,
    },
    /// So much that the whole content is given: whatever else the copy has is to go.
    All(Vec<Record>),
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some { put, removed } if put.is_empty() && removed.is_empty())
    }
}

/// The keys that changed. Bounded: past twice the cache's size it remembers only that everything may have changed.
#[derive(Debug)]
pub(super) enum Dirty {
    Keys(HashSet<Arc<CacheKey>>),
    All,
}

impl Dirty {
    pub(super) fn new() -> Self {
        Self::Keys(HashSet::new())
    }

    pub(super) fn touch(&mut self, key: &Arc<CacheKey>, max_size: usize) {
        if let Self::Keys(keys) = self {
            keys.insert(Arc::clone(key));
            if keys.len() > max_size.saturating_mul(2) {
                *self = Self::All;
            }
        }
    }

    pub(super) fn all(&mut self) {
        *self = Self::All;
    }

    pub(super) fn take(&mut self, answers: &Lru<Arc<CacheKey>, Answer>) -> Changes {
        match std::mem::replace(self, Self::new()) {
            Self::All => Changes::All(answers.iter().map(|(key, answer)| answer.record(key)).collect()),
            Self::Keys(keys) => {
                let (mut put, mut removed) = (Vec::new(), Vec::new());
                for key in keys {
                    match answers.slot(&key).and_then(|slot| answers.at(slot)) {
                        Some((key, answer)) => put.push(answer.record(key)),
                        None => removed.push(Arc::unwrap_or_clone(key)),
                    }
                }
                Changes::Some { put, removed }
            }
        }
    }
}
