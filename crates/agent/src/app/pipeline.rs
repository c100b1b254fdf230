//! The decision pipeline as configured: its settings, its clock, its observer.

use std::sync::Arc;
use std::time::Duration;

use super::shutdown::TaskGroup;
use crate::clock;
use crate::config::{self, Config, RESPONSE_MARGIN};
use crate::jobs::disconnect_denied_users::{DisconnectQueue, DisconnectRequest};
use crate::metrics::{DecisionMetrics, Metrics};
use crate::operations::notifications::Notifications;
use crate::operations::policy_backend::PolicyBackend;
use authz::{Authorizer, Dependencies, Observation, Observer, RateLimits, Settings};
use resilience::{BreakerSettings, CacheSettings, Rate};

/// Queries to the portal at once, for each login that may wait: its own, and one in the background
/// for a decision that is about to expire. No login then finds the bound reached by other logins.
const QUERIES_PER_LOGIN: usize = 2;
/// The longest TTL that the portal may set for a decision.
const MAX_TTL: Duration = Duration::from_hours(24);
/// Users and addresses that have a rate limit's bucket.
const MAX_KEYS: usize = 65_536;

/// Builds a pipeline without any decision; its queries run in `queries`.
pub(crate) fn build(
    config: &Config,
    policy: PolicyBackend,
    metrics: &Metrics,
    queries: &TaskGroup,
    disconnects: DisconnectQueue,
    notifications: &Notifications,
) -> Authorizer {
    let dependencies = Dependencies {
        source: Arc::new(policy),
        clock: clock::authz_clock(),
        observer: observer(metrics.clone(), disconnects, notifications.clone()),
        tasks: queries.tasks.clone(),
        stop: queries.stop.clone(),
    };
    Authorizer::new(dependencies, settings(config))
}

/// The pipeline's settings in `config`.
pub(crate) fn settings(config: &Config) -> Settings {
    let resilience = &config.resilience;
    let (breaker, cache) = (resilience.circuit_breaker, resilience.cache);
    Settings {
        fail_mode: resilience.fail_mode.0,
        source_timeout: config.portal.timeout.0,
        margin: RESPONSE_MARGIN,
        max_queries: config.ipc.max_connections.saturating_mul(QUERIES_PER_LOGIN),
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
            max_per_user: cache.max_per_user,
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

/// Counts, logs and announces what the pipeline does.
fn observer(metrics: Metrics, disconnects: DisconnectQueue, notifications: Notifications) -> Observer {
    let decisions = DecisionMetrics::new(&metrics);
    Observer::new(move |observation| match observation {
        Observation::Decided(record) => decisions.login_decided(&record),
        Observation::QueryEnded { end, duration } => metrics.query_ended(end, duration),
        Observation::Breaker(transition) => {
            let (from, to) = (transition.from.as_str(), transition.to.as_str());
            let cause = transition.cause.as_str();
            tracing::warn!(service = "portal", from, to, cause, "circuit breaker");
            metrics.breaker_changed(&transition);
            notifications.breaker_changed(&transition);
        }
        Observation::DisconnectRequested { key, reason } => {
            disconnects.push(DisconnectRequest { key, reason });
        }
        _ => {}
    })
}
