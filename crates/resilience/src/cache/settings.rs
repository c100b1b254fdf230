//! How long answers live.

use std::time::Duration;

/// How long answers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long an allow is fresh when the source does not say.
    pub ttl: Duration,
    /// How old an allow may be to be used in an outage, and how long an outage keeps out who was thrown out.
    pub stale_ttl: Duration,
    /// How long a deny is fresh when the source does not say.
    pub deny_ttl: Duration,
    /// The longest time that a source can keep an answer fresh.
    pub max_ttl: Duration,
    /// The most answers that are kept; exact. The one that was not used for the longest time goes first. As many users are
    /// remembered who were thrown out.
    pub max_size: usize,
    /// Whose decision serves in an outage.
    pub stale_match: StaleMatch,
}

/// Whose decision serves in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StaleMatch {
    /// The one about the same user, group, vhost and address.
    Exact,
    /// The last one about the same user, group and vhost, from whatever address: for users who roam.
    User,
}

/// How long the source wants its answer to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// As long as the settings say.
    Default,
    /// Not at all; what is in the cache about the same login goes too.
    DoNotCache,
    /// This long.
    For(Duration),
}

impl From<Option<Duration>> for Ttl {
    /// As it is on the wire: nothing said, zero, or a time.
    fn from(ttl: Option<Duration>) -> Self {
        match ttl {
            None => Self::Default,
            Some(Duration::ZERO) => Self::DoNotCache,
            Some(ttl) => Self::For(ttl),
        }
    }
}
