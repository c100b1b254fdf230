//! `[resilience]`: what happens to logins while the portal is slow, wrong or gone.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use resilience::{FailMode, StaleMatch};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::checker::Checker;
use super::period::Period;
use super::server_environment::Environment;

/// How long decisions are reused, and what an outage does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resilience {
    /// Decides logins without a fresh decision during an outage.
    pub fail_mode: Keyword<FailMode>,
    /// Whether an outage may use a user's last decision for another client address.
    pub stale_match: Keyword<StaleMatch>,
    /// Permits `fail_mode = "open"` on a production server.
    pub allow_fail_open_in_production: bool,
    /// The circuit breaker of calls to the portal.
    pub circuit_breaker: CircuitBreaker,
    /// The decision cache.
    pub cache: Cache,
    /// Rate limits of logins.
    pub rate_limit: RateLimit,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            fail_mode: Keyword(FailMode::Stale),
            stale_match: Keyword(StaleMatch::Exact),
            allow_fail_open_in_production: false,
            circuit_breaker: CircuitBreaker::default(),
            cache: Cache::default(),
            rate_limit: RateLimit::default(),
        }
    }
}

/// The circuit breaker of calls to the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// This many failures within `interval` open the breaker.
    pub failure_threshold: u32,
    /// The length of the rolling window.
    pub interval: Period,
    /// How long the breaker stays open.
    pub timeout: Period,
    /// How many probes may run at once in half-open, and how many must succeed to close the
    /// breaker.
    pub max_requests: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            interval: Period::seconds(60),
            timeout: Period::seconds(30),
            max_requests: 1,
        }
    }
}

/// The decision cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an allow is fresh, unless the portal sets a TTL.
    pub ttl: Period,
    /// How old an allow may be that decides in an outage, and how long a revoked user is denied in
    /// one.
    pub stale_ttl: Period,
    /// How long a deny is fresh, unless the portal sets a TTL.
    pub deny_ttl: Period,
    /// Allows kept; as many denies, and as many denied users. A decision of more than 4 KiB counts
    /// as several.
    pub max_size: usize,
    /// Allows kept of one user, and denies; the oldest is evicted first.
    pub max_per_user: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Period::seconds(5 * 60),
            stale_ttl: Period::seconds(30 * 60),
            deny_ttl: Period::seconds(30),
            max_size: 10_000,
            max_per_user: 16,
        }
    }
}

/// Rate limits of logins; off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Limit for each user.
    pub per_user: Option<Rate>,
    /// Limit for each client address.
    pub per_address: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Logins at once.
    pub burst: NonZeroU32,
    /// Time after which one more login is admitted.
    pub every: Period,
}

/// A value that is one of a few keywords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyword<T>(pub T);

impl Serialize for Keyword<FailMode> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Serialize for Keyword<StaleMatch> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            StaleMatch::Exact => "exact",
            StaleMatch::User => "user",
        })
    }
}

impl<'de, T: FromStr<Err: std::fmt::Display>> Deserialize<'de> for Keyword<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|error| de::Error::custom(format!("\"{text}\" {error}")))
    }
}

const DAY: Duration = Duration::from_hours(24);

impl Resilience {
    /// Reports `fail_mode = "open"` in production without the explicit permission.
    pub(super) fn check_environment(&self, environment: Environment, checker: &mut Checker) {
        let open = self.fail_mode.0 == FailMode::Open;
        if open && environment == Environment::Production && !self.allow_fail_open_in_production {
            checker.problem(
                "resilience.fail_mode",
                "\"open\" allows every login while the portal is gone; on a production server set \
                 resilience.allow_fail_open_in_production = true as well"
                    .to_owned(),
            );
        }
    }

    pub(super) fn check(&self, checker: &mut Checker) {
        let breaker = &self.circuit_breaker;
        checker.count(
            "resilience.circuit_breaker.failure_threshold",
            breaker.failure_threshold as usize,
            1..=1_000,
        );
        checker.count(
            "resilience.circuit_breaker.max_requests",
            breaker.max_requests as usize,
            1..=1_000,
        );
        checker.period("resilience.circuit_breaker.interval", breaker.interval, DAY);
        checker.period("resilience.circuit_breaker.timeout", breaker.timeout, DAY);
        self.cache.check(checker);
        for (key, rate) in [
            ("resilience.rate_limit.per_user.every", self.rate_limit.per_user),
            (
                "resilience.rate_limit.per_address.every",
                self.rate_limit.per_address,
            ),
        ] {
            if let Some(rate) = rate {
                checker.period_from(key, rate.every, Duration::from_millis(1), DAY);
            }
        }
    }
}

impl Cache {
    fn check(&self, checker: &mut Checker) {
        // A minimal TTL is a valid choice: every login is then asked about.
        let least = Duration::from_millis(1);
        checker.period_from("resilience.cache.ttl", self.ttl, least, DAY);
        checker.period_from("resilience.cache.stale_ttl", self.stale_ttl, least, 7 * DAY);
        checker.period_from("resilience.cache.deny_ttl", self.deny_ttl, least, DAY);
        checker.count("resilience.cache.max_size", self.max_size, 1..=1_000_000);
        checker.count("resilience.cache.max_per_user", self.max_per_user, 1..=1_000);
        if self.ttl > self.stale_ttl {
            checker.problem(
                "resilience.cache.ttl",
                format!(
                    "{} is longer than resilience.cache.stale_ttl ({})",
                    self.ttl, self.stale_ttl
                ),
            );
        }
    }
}
