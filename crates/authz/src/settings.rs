//! Settings of the pipeline.

use std::time::Duration;

use resilience::{BreakerSettings, CacheSettings, FailMode, Rate};

/// Settings of the pipeline; all can change at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How a login without a fresh decision is decided in an outage.
    pub fail_mode: FailMode,
    /// Longest time of one query to the source. The breaker's `timeout` bounds it too.
    pub source_timeout: Duration,
    /// Time reserved for the reply: a login waits for the source until this long before its
    /// deadline.
    pub margin: Duration,
    /// Most queries to the source in flight. One more is an outage for the login that needs it.
    pub max_queries: usize,
    /// The breaker between the pipeline and the source.
    pub breaker: BreakerSettings,
    /// The cache of decisions.
    pub cache: CacheSettings,
    /// How often one user or one address may log in.
    pub rates: RateLimits,
}

/// How often one user or one address may log in; `None` sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Per user.
    pub per_user: Option<Rate>,
    /// Per client address; IPv6 addresses of one /64 network count as one.
    pub per_address: Option<Rate>,
    /// Most users, and most addresses, that are tracked.
    pub max_keys: usize,
}
