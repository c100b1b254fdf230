//! Questions under way, and the invalidations that overtake them.

use std::collections::VecDeque;
use std::sync::Arc;

use ocserv_agent_model::Username;

use super::CacheKey;
use crate::time::Now;

/// How many invalidations are remembered one by one. A question that is older than all of them counts as invalidated:
/// the worst that can follow is a question asked once more.
const REMEMBERED: usize = 1_024;

/// A question to the source, from the moment it was asked.
#[derive(Debug)]
pub struct Question {
    pub(super) key: Arc<CacheKey>,
    pub(super) asked: Now,
    pub(super) mark: Mark,
}

/// A moment among the invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// How many there had been.
    seen: u64,
}

impl Question {
    /// What it is about.
    #[must_use]
    pub fn key(&self) -> &CacheKey {
        &self.key
    }
}

/// What an invalidation is about.
#[derive(Debug)]
pub(super) enum Scope {
    Key(CacheKey),
    User(Username),
    All,
}

/// The last invalidations, in order.
#[derive(Debug)]
pub(super) struct Invalidations {
    /// How many there have been.
    count: u64,
    /// The last of them.
    last: VecDeque<Scope>,
}

impl Invalidations {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            last: VecDeque::new(),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { seen: self.count }
    }

    pub(super) fn note(&mut self, scope: Scope) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(scope);
        self.count += 1;
    }

    /// Whether one of those that came after `mark` is about `key`.
    pub(super) fn concern(&self, key: &CacheKey, mark: Mark) -> bool {
        let newer = usize::try_from(self.count - mark.seen).unwrap_or(usize::MAX);
        newer > self.last.len()
            || self.last.iter().rev().take(newer).any(|scope| match scope {
                Scope::Key(other) => other == key,
                Scope::User(user) => *user == key.username,
                Scope::All => true,
            })
    }
}
