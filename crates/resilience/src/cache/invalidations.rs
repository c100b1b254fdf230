//! Invalidations: each is about one user, or about all. Oldest first.

use std::collections::VecDeque;

use ocserv_agent_model::Username;

use super::key::CacheKey;

/// Most invalidations that are kept. A query older than all of them counts as invalidated, which
/// costs at worst one more query.
const MAX_INVALIDATIONS: usize = 1_024;

/// A position in the sequence of invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(u64);

/// The users of the latest invalidations, and the number of all.
#[derive(Debug)]
pub(super) struct Invalidations {
    count: u64,
    /// The number of the last one that was about all users.
    all: u64,
    latest: VecDeque<Username>,
}

impl Invalidations {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            all: 0,
            latest: VecDeque::new(),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.count)
    }

    pub(super) fn record(&mut self, user: Username) {
        if self.latest.len() == MAX_INVALIDATIONS {
            self.latest.pop_front();
        }
        self.latest.push_back(user);
        self.count += 1;
    }

    /// Records an invalidation of every user.
    pub(super) fn record_all(&mut self) {
        self.latest.clear();
        self.count += 1;
        self.all = self.count;
    }

    /// Whether an invalidation after `epoch` covers `key`.
    pub(super) fn cover(&self, key: &CacheKey, epoch: Epoch) -> bool {
        let newer = usize::try_from(self.count - epoch.0).unwrap_or(usize::MAX);
        epoch.0 < self.all
            || newer > self.latest.len()
            || self
                .latest
                .iter()
                .rev()
                .take(newer)
                .any(|user| *user == key.username)
    }
}
