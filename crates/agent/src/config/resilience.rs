//! `[resilience]`: what happens to logins while the portal is slow, wrong or gone.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use resilience::{FailMode, StaleMatch};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Period;
use super::check::Checker;

/// How a decision may be reused, and what an outage does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resilience {
    /// What an outage does to a login without a fresh decision.
    pub fail_mode: Word<FailMode>,
    /// Whether a user who comes from another address may use her last decision in an outage.
    pub stale_match: Word<StaleMatch>,
    /// Says that `fail_mode = "open"` is meant, although this is a production server.
    pub allow_fail_open_in_production: bool,
    /// When the portal is left alone.
    pub circuit_breaker: CircuitBreaker,
    /// How long decisions are kept.
    pub cache: Cache,
    /// How often one user or one address may ask.
    pub rate_limit: RateLimit,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            fail_mode: Word(FailMode::Stale),
            stale_match: Word(StaleMatch::Exact),
            allow_fail_open_in_production: false,
            circuit_breaker: CircuitBreaker::default(),
            cache: Cache::default(),
            rate_limit: RateLimit::default(),
        }
    }
}

/// When the portal is left alone, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// This many failures within `interval` open the breaker.
    pub failure_threshold: u32,
    /// The length of the rolling window.
    pub interval: Period,
    /// How long the breaker stays open.
    pub timeout: Period,
    /// How many probes may run at once in half-open, and how many must succeed to close the breaker.
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

/// How long decisions are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long an allow serves without asking, where the portal says nothing else.
    pub ttl: Period,
    /// How old an allow may be that serves in an outage, and how long an outage keeps out whom the portal threw out.
    pub stale_ttl: Period,
    /// How long a deny serves without asking, where the portal says nothing else.
    pub deny_ttl: Period,
    /// How many decisions are kept; the least recently used goes first.
    pub max_size: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Period::seconds(5 * 60),
            stale_ttl: Period::seconds(30 * 60),
            deny_ttl: Period::seconds(30),
            max_size: 10_000,
        }
    }
}

/// How often one user or one address may ask; nothing is limited unless it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// For one user.
    pub per_user: Option<Rate>,
    /// For one client address.
    pub per_address: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many may come at once.
    pub burst: NonZeroU32,
    /// After which time one more may come.
    pub every: Period,
}

/// A value that is one of a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<T>(pub T);

impl Serialize for Word<FailMode> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Serialize for Word<StaleMatch> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            StaleMatch::Exact => "exact",
            StaleMatch::User => "user",
        })
    }
}

impl<'de, T: FromStr<Err: std::fmt::Display>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|error| de::Error::custom(format!("\"{text}\" {error}")))
    }
}

const DAY: Duration = Duration::from_hours(24);

impl Resilience {
    /// Letting everyone in takes a second word where it counts.
    pub(super) fn check_environment(&self, environment: &str, checker: &mut Checker) {
        let open = self.fail_mode.0 == FailMode::Open;
        if open && environment == "production" && !self.allow_fail_open_in_production {
            checker.problem(
                "resilience.fail_mode",
                "\"open\" lets everyone in while the portal is gone; on a production server say \
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
        // As good as no time is a sensible wish here: it asks about every login.
        let least = Duration::from_millis(1);
        checker.period_from("resilience.cache.ttl", self.ttl, least, DAY);
        checker.period_from("resilience.cache.stale_ttl", self.stale_ttl, least, 7 * DAY);
        checker.period_from("resilience.cache.deny_ttl", self.deny_ttl, least, DAY);
        checker.count("resilience.cache.max_size", self.max_size, 1..=1_000_000);
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
