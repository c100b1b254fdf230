//! The decision pipeline as this agent is configured: its settings, its clock, and who hears what happens in it.

use std::sync::Arc;
use std::time::Duration;

use authz::{Authorizer, Clock, Dependencies, Observation, Observer, RateLimits, Settings};
use resilience::{BreakerSettings, CacheSettings, Now, Rate};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::{self, Config, RESPONSE_MARGIN};
use crate::metrics::Metrics;
use crate::operations::policy_backend::PolicyBackend;

/// Questions to the portal at once, for each login that may wait: its own, and one in the background for a decision that
/// is about to expire. So no login that was let in finds the bound reached by other logins, while the portal answers.
const QUESTIONS_PER_LOGIN: usize = 2;
/// The longest time that the portal may ask a decision to be kept for.
const MAX_TTL: Duration = Duration::from_hours(24);
/// Users and addresses that are remembered for rate limits.
const MAX_KEYS: usize = 65_536;

/// A pipeline that knows no decision yet. Its questions run on `tasks` and end with `stop`.
pub(crate) fn build(
    config: &Config,
    policy: PolicyBackend,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Authorizer {
    let dependencies = Dependencies {
        source: Arc::new(policy),
        clock: clock(),
        observer: observer(metrics.clone()),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    Authorizer::new(dependencies, settings(config))
}

/// The agent's clock, as the pipeline reads it.
pub(crate) fn clock() -> Clock {
    Clock::new(|| Now {
        mono: clock::now().into_std(),
        wall: clock::wall(),
    })
}

/// What `config` says about the pipeline.
pub(crate) fn settings(config: &Config) -> Settings {
    let resilience = &config.resilience;
    let (breaker, cache) = (resilience.circuit_breaker, resilience.cache);
    Settings {
        fail_mode: resilience.fail_mode.0,
        source_timeout: config.portal.timeout.0,
        margin: RESPONSE_MARGIN,
        max_queries: config.ipc.max_connections.saturating_mul(QUESTIONS_PER_LOGIN),
        breaker: BreakerSettings {
            failure_threshold: breaker.failure_threshold,
            interval: breaker.interval.0,
            timeout: breaker.timeout.0,
            max_requests: breaker.max_requests,
        },
        cache: CacheSettings {
            ttl: cache.ttl.0,
            stale_ttl: cache.stale_ttl.0,
            deny_ttl: cache.deny_ttl.0,
            max_ttl: MAX_TTL,
            max_size: cache.max_size,
            stale_match: resilience.stale_match.0,
        },
        rates: RateLimits {
            per_user: resilience.rate_limit.per_user.map(rate),
            per_address: resilience.rate_limit.per_address.map(rate),
            max_keys: MAX_KEYS,
        },
    }
}

fn rate(rate: config::Rate) -> Rate {
    Rate {
        burst: rate.burst,
        interval: rate.every.0,
    }
}

fn observer(metrics: Metrics) -> Observer {
    Observer::new(move |observation| {
        if let Observation::Breaker(transition) = &observation {
            let (from, to) = (transition.from.as_str(), transition.to.as_str());
            tracing::warn!(
                service = "portal",
                from,
                to,
                why = transition.cause.as_str(),
                "circuit breaker"
            );
        }
        metrics.observe(&observation);
    })
}
