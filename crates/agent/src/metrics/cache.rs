//! Metrics of the decision cache.

use resilience::CacheStats;
use telemetry::Kind;

use super::handle::{Metrics, declare, gauge_value};

declare! {
    CACHE_SIZE = "ocserv_agent_cache_size", Kind::Gauge, [],
        "Decisions in the cache.";
    CACHE_HIT_RATIO = "ocserv_agent_cache_hit_ratio", Kind::Gauge, [],
        "Share of lookups that found a fresh decision since the agent started, 0 to 1.";
    CACHE_HITS = "ocserv_agent_cache_hits_total", Kind::Counter, [],
        "Lookups that found a fresh decision.";
    CACHE_MISSES = "ocserv_agent_cache_misses_total", Kind::Counter, [],
        "Lookups that found no fresh decision.";
    CACHE_STALE_HITS = "ocserv_agent_cache_stale_hits_total", Kind::Counter, [],
        "Stale decisions that were used in an outage.";
    CACHE_EVICTIONS = "ocserv_agent_cache_evictions_total", Kind::Counter, [],
        "Decisions evicted to make room.";
    DENIED_USERS = "ocserv_agent_cache_denied_users", Kind::Gauge, [],
        "Users that are denied in an outage, whatever their address. At most `resilience.cache.max_size`.";
    FORGOTTEN_DENIES = "ocserv_agent_cache_forgotten_denies_total", Kind::Counter, [],
        "Denied users for whom there was no room. From the first on, fail mode `open` allows only \
         logins with an allow of their own, until the agent is restarted with a larger `max_size`.";
    STORE_UP = "ocserv_agent_decision_store_up", Kind::Gauge, [],
        "1 while decisions and revocations can be written to state_dir, else 0: a restart would lose them. Absent without a portal.";
}

impl Metrics {
    /// Sets the cache's size, hit ratio and totals.
    pub(crate) fn set_cache(&self, stats: &CacheStats) {
        self.registry.gauge(&CACHE_SIZE, &[]).set(gauge_value(stats.size));
        self.registry
            .gauge(&DENIED_USERS, &[])
            .set(gauge_value(stats.denied_users));
        self.registry.gauge(&CACHE_HIT_RATIO, &[]).set(stats.hit_ratio());
        for (metric, value) in [
            (&CACHE_HITS, stats.hits),
            (&CACHE_MISSES, stats.misses),
            (&CACHE_STALE_HITS, stats.stale_hits),
            (&CACHE_EVICTIONS, stats.evictions),
            (&FORGOTTEN_DENIES, stats.forgotten_denies),
        ] {
            self.registry.counter(metric, &[]).absolute(value);
        }
    }

    /// Sets whether the decision store works.
    pub(crate) fn set_decision_store_up(&self, up: bool) {
        let value = if up { 1.0 } else { 0.0 };
        self.registry.gauge(&STORE_UP, &[]).set(value);
    }
}
