//! What a cache counts.

/// What a cache counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Lookups that found a fresh answer.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Answers that served in an outage.
    pub stale_hits: u64,
    /// Answers that went to make room.
    pub evictions: u64,
    /// Answers in the cache.
    pub size: usize,
}

impl CacheStats {
    /// Hits among all lookups, from 0 to 1; 0 before the first lookup.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}
