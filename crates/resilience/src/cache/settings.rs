//! Settings of the cache.

use std::time::Duration;

/// Settings of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// TTL of an allow when the source sets none.
    pub ttl: Duration,
    /// Age up to which an allow may be used in an outage, and a revoked user is denied in one.
    pub stale_ttl: Duration,
    /// TTL of a deny when the source sets none.
    pub deny_ttl: Duration,
    /// Longest TTL that the source can set.
    pub max_ttl: Duration,
    /// Most allows, most denies, and most denied users. An answer of more than 4 KiB counts as
    /// several.
    pub max_size: usize,
    /// Most allows and most denies of one user; the oldest is evicted first.
    pub max_per_user: usize,
    /// Which answer is used in an outage.
    pub stale_match: StaleMatch,
}

/// Which answer is used in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaleMatch {
    /// The one for the same user, group, vhost and address.
    Exact,
    /// The latest one for the same user, group and vhost, from whatever address: for roaming users.
    User,
}

/// The TTL that the source sets for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// None: the settings decide.
    Default,
    /// Zero: the answer is never fresh. An allow is not stored, and an earlier answer to the same
    /// key is dropped; a deny is stored for outages.
    Zero,
    /// This long.
    For(Duration),
}

impl From<Option<Duration>> for Ttl {
    /// Converts an optional TTL, in which zero means "never fresh".
    fn from(ttl: Option<Duration>) -> Self {
        match ttl {
            None => Self::Default,
            Some(Duration::ZERO) => Self::Zero,
            Some(ttl) => Self::For(ttl),
        }
    }
}
