//! How the pipeline behaves.

use std::time::Duration;

use resilience::{BreakerSettings, CacheSettings, FailMode, Rate};

/// How the pipeline behaves; all of it can change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What an outage does to a login without a fresh decision.
    pub fail_mode: FailMode,
    /// How long one question to the source may take. The breaker's `timeout` bounds it too.
    pub source_timeout: Duration,
    /// What is kept of a login's budget for the way back: a login waits for the source until this long before its
    /// deadline.
    pub margin: Duration,
    /// The most questions to the source at once. One more is an outage for the login that wanted it.
    pub max_questions: usize,
    /// The breaker between the pipeline and the source.
    pub breaker: BreakerSettings,
    /// The decisions that are kept.
    pub cache: CacheSettings,
    /// How often one user or one address may ask.
    pub rates: RateLimits,
}

/// How often one user or one address may ask; `None` sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Per user.
    pub per_user: Option<Rate>,
    /// Per client address.
    pub per_address: Option<Rate>,
    /// How many users and how many addresses are remembered.
    pub max_keys: usize,
}
