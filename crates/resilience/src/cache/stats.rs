//! The cache's counters.

/// Counters since the cache was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found a fresh answer.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Answers used in an outage.
    pub stale_hits: u64,
    /// Answers evicted to make room.
    pub evictions: u64,
    /// Denied users for whom there was no room.
    pub forgotten_denies: u64,
    /// Answers in the cache now.
    pub size: usize,
    /// Users that are denied in outages now.
    pub denied_users: usize,
}

impl CacheStats {
    /// Returns hits divided by lookups, from 0 to 1; 0 before the first lookup.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}
