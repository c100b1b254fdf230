//! Metrics of the circuit breaker.

use resilience::{BreakerState, BreakerStats, Transition};
use telemetry::Kind;

use super::handle::{Metrics, declare};

declare! {
    BREAKER_STATE = "ocserv_agent_circuit_breaker_state", Kind::Gauge, ["service"],
        "0 closed, 1 half-open, 2 open.";
    BREAKER_REQUESTS = "ocserv_agent_circuit_breaker_requests_total", Kind::Counter, ["service"],
        "Calls that the breaker admitted.";
    BREAKER_SUCCESSES = "ocserv_agent_circuit_breaker_successes_total", Kind::Counter, ["service"],
        "Admitted calls that succeeded.";
    BREAKER_FAILURES = "ocserv_agent_circuit_breaker_failures_total", Kind::Counter, ["service"],
        "Admitted calls that failed.";
    BREAKER_REFUSED = "ocserv_agent_circuit_breaker_refused_total", Kind::Counter, ["service"],
        "Calls that the breaker did not admit.";
    BREAKER_TRANSITIONS = "ocserv_agent_circuit_breaker_transitions_total", Kind::Counter, ["service", "to"],
        "Changes of the breaker's state, by the new state.";
}

/// The only service behind a breaker.
const PORTAL: &str = "portal";

impl Metrics {
    /// Counts a transition of the breaker.
    pub(crate) fn breaker_changed(&self, transition: &Transition) {
        let to = transition.to.as_str();
        self.registry
            .counter(&BREAKER_TRANSITIONS, &[PORTAL.into(), to.into()])
            .increment(1);
    }

    /// Sets the breaker's state and totals.
    pub(crate) fn set_breaker(&self, state: BreakerState, stats: &BreakerStats) {
        let state = match state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        };
        self.registry.gauge(&BREAKER_STATE, &[PORTAL.into()]).set(state);
        for (metric, value) in [
            (&BREAKER_REQUESTS, stats.requests),
            (&BREAKER_SUCCESSES, stats.successes),
            (&BREAKER_FAILURES, stats.failures),
            (&BREAKER_REFUSED, stats.refused),
        ] {
            self.registry.counter(metric, &[PORTAL.into()]).absolute(value);
        }
    }
}
