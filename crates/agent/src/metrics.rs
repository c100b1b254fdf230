//! Every metric of the agent: what it is called, what it means, and the handle that counts.
//!
//! `docs/reference/metrics.md` is made of [`DECLARED`] and checked against it. No label can hold a user's name or
//! address: `telemetry::LabelValue` takes words of the program and the server's own name only.

use std::sync::Arc;
use std::time::Duration;

use authz::{DecisionRecord, Observation, QueryEnd};
use ocserv_agent_model::{DisconnectReason, EventKind, Source};
use resilience::{BreakerState, Transition};
use telemetry::{Counter, Declared, Histogram, Kind, LabelValue, Registry, RegistryError};

mod occtl;

const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

macro_rules! declare {
    ($($name:ident = $text:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(pub(crate) const $name: Declared =
            Declared { name: $text, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order of the documentation.
        pub const DECLARED: &[Declared] = &[$($name),*];
    };
}

declare! {
    ACTIVE_SESSIONS = "ocserv_agent_active_sessions", Kind::Gauge, ["server_id"],
        "Sessions that are up, as far as the agent has noted them.";
    TOTAL_SESSIONS = "ocserv_total_sessions", Kind::Counter, [],
        "Sessions that began since the agent started.";
    BYTES_IN = "ocserv_bytes_in_total", Kind::Counter, [],
        "Bytes that ended sessions received from clients, as ocserv counted them.";
    BYTES_OUT = "ocserv_bytes_out_total", Kind::Counter, [],
        "Bytes that ended sessions sent to clients, as ocserv counted them.";
    DISCONNECTS = "ocserv_disconnect_total", Kind::Counter, ["reason"],
        "Sessions that ended, by reason. ocserv tells its scripts none, so only ends that the agent brought about have one.";
    DECISIONS = "ocserv_agent_decisions_total", Kind::Counter, ["source", "outcome"],
        "Logins decided, by where the decision came from and whether the client was let in.";
    DECISION_SECONDS = "ocserv_agent_decision_duration_seconds", Kind::Histogram(SECONDS), ["source"],
        "How long a decision took, from the request to the verdict.";
    PORTAL_REQUESTS = "ocserv_agent_portal_requests_total", Kind::Counter, ["method", "status"],
        "Calls to the portal, by how they ended.";
    PORTAL_SECONDS = "ocserv_agent_portal_request_duration_seconds", Kind::Histogram(SECONDS), ["method"],
        "How long a call to the portal took.";
    PORTAL_CONNECTED = "ocserv_agent_portal_connected", Kind::Gauge, [],
        "1 while the connection to the portal is up, else 0.";
    BREAKER_STATE = "ocserv_agent_circuit_breaker_state", Kind::Gauge, ["service"],
        "0 closed, 1 half-open, 2 open.";
    BREAKER_REQUESTS = "ocserv_agent_circuit_breaker_requests_total", Kind::Counter, ["service"],
        "Calls that the breaker admitted.";
    BREAKER_FAILURES = "ocserv_agent_circuit_breaker_failures_total", Kind::Counter, ["service"],
        "Admitted calls that failed.";
    BREAKER_REFUSED = "ocserv_agent_circuit_breaker_refused_total", Kind::Counter, ["service"],
        "Calls that the breaker did not admit.";
    BREAKER_TRANSITIONS = "ocserv_agent_circuit_breaker_transitions_total", Kind::Counter, ["service", "to"],
        "Changes of the breaker's state, by the new state.";
    CACHE_SIZE = "ocserv_agent_cache_size", Kind::Gauge, [],
        "Decisions in the cache.";
    CACHE_HIT_RATIO = "ocserv_agent_cache_hit_ratio", Kind::Gauge, [],
        "Share of look-ups that found a fresh decision since the agent started, 0 to 1.";
    CACHE_HITS = "ocserv_agent_cache_hits_total", Kind::Counter, [],
        "Look-ups that found a fresh decision.";
    CACHE_MISSES = "ocserv_agent_cache_misses_total", Kind::Counter, [],
        "Look-ups that found none.";
    CACHE_STALE_HITS = "ocserv_agent_cache_stale_hits_total", Kind::Counter, [],
        "Remembered decisions that served in an outage.";
    CACHE_EVICTIONS = "ocserv_agent_cache_evictions_total", Kind::Counter, [],
        "Decisions that went to make room.";
    EVENTS_PENDING = "ocserv_agent_outbox_depth", Kind::Gauge, [],
        "Events that wait for the portal.";
    EVENTS_DELIVERED = "ocserv_agent_outbox_delivered_total", Kind::Counter, [],
        "Events that the portal has taken.";
    EVENTS_DROPPED = "ocserv_agent_outbox_dropped_total", Kind::Counter, ["why"],
        "Events that are lost: too many waited, or the portal will never take them.";
    IPC_REQUESTS = "ocserv_agent_ipc_requests_total", Kind::Counter, ["reason"],
        "Requests on the IPC socket that were understood.";
    IPC_ERRORS = "ocserv_agent_ipc_errors_total", Kind::Counter, ["kind"],
        "Connections on the IPC socket that came to nothing.";
    IPC_REJECTED_PEERS = "ocserv_agent_ipc_rejected_peers_total", Kind::Counter, [],
        "Connections on the IPC socket from users that are not in ipc.allowed_uids.";
    OCSERV_UP = "ocserv_agent_ocserv_up", Kind::Gauge, [],
        "1 when ocserv answered the last request on its control socket, else 0. It is asked every 10 s at least.";
    OCCTL_REQUESTS = "ocserv_agent_occtl_requests_total", Kind::Counter, ["command", "status"],
        "Requests to ocserv on its control socket, by how they ended: answered, not_reachable, refused, timeout, malformed, failed.";
    OCCTL_SECONDS = "ocserv_agent_occtl_request_duration_seconds", Kind::Histogram(SECONDS), ["command"],
        "How long ocserv took for a request on its control socket.";
    REVOKED = "ocserv_agent_revoked_sessions_total", Kind::Counter, [],
        "Sessions that were ended because the policy no longer allows them.";
}

/// The one service behind a breaker.
const PORTAL: &str = "portal";

/// What the agent counts.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    server_id: LabelValue,
    of_logins: Arc<OfLogins>,
}

/// The series that every login touches, looked up once.
struct OfLogins {
    requests: Counter,
    sessions: Counter,
    decided: [OfDecisions; Source::ALL.len()],
}

struct OfDecisions {
    source: Source,
    allow: Counter,
    deny: Counter,
    seconds: Histogram,
}

impl OfLogins {
    fn new(registry: &Registry) -> Self {
        let decided = Source::ALL.map(|source| {
            let name = source.as_str();
            let counter =
                |outcome: &'static str| registry.counter(&DECISIONS, &[name.into(), outcome.into()]);
            OfDecisions {
                source,
                allow: counter("allow"),
                deny: counter("deny"),
                seconds: registry.histogram(&DECISION_SECONDS, &[name.into()]),
            }
        });
        Self {
            requests: registry.counter(&IPC_REQUESTS, &["connect".into()]),
            sessions: registry.counter(&TOTAL_SESSIONS, &[]),
            decided,
        }
    }
}

impl Metrics {
    /// Nothing counted yet, on the server of `agent_id`. Series with few values are there from the start, as zeros.
    ///
    /// # Errors
    /// When the declarations contradict each other: never with those that are compiled in, as a test shows.
    pub fn new(agent_id: &str) -> Result<Self, RegistryError> {
        let registry = Arc::new(Registry::new(DECLARED)?);
        for reason in DisconnectReason::ALL {
            let _shown = registry.counter(&DISCONNECTS, &[reason.as_str().into()]);
        }
        for metric in [&BYTES_IN, &BYTES_OUT, &REVOKED] {
            let _shown = registry.counter(metric, &[]);
        }
        registry.gauge(&OCSERV_UP, &[]).set(0.0);
        Ok(Self {
            of_logins: Arc::new(OfLogins::new(&registry)),
            registry,
            server_id: LabelValue::server_id(agent_id),
        })
    }

    /// What `/metrics` is made of.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Counts what the pipeline tells.
    pub(crate) fn observe(&self, observation: &Observation) {
        match observation {
            Observation::Decided(record) => self.decided(record),
            Observation::Breaker(transition) => self.breaker_changed(transition),
            Observation::QueryEnded { end, duration } => self.query_ended(*end, *duration),
            _ => {}
        }
    }

    fn decided(&self, record: &DecisionRecord) {
        let of_source = |series: &&OfDecisions| series.source == record.source;
        if let Some(series) = self.of_logins.decided.iter().find(of_source) {
            let outcome = if record.allowed() {
                &series.allow
            } else {
                &series.deny
            };
            outcome.increment(1);
            series.seconds.record(record.duration);
        }
    }

    fn breaker_changed(&self, transition: &Transition) {
        let to = transition.to.as_str();
        self.registry
            .counter(&BREAKER_TRANSITIONS, &[PORTAL.into(), to.into()])
            .increment(1);
    }

    fn query_ended(&self, end: QueryEnd, duration: Duration) {
        let status = match end {
            QueryEnd::Answered => "answered",
            QueryEnd::Invalidated => "overtaken",
            QueryEnd::Outage => "outage",
            QueryEnd::Cancelled => "cancelled",
        };
        self.called("CheckPolicy", status, duration);
    }

    /// A call to the portal ended.
    pub(crate) fn called(&self, method: &'static str, status: &'static str, took: Duration) {
        self.registry
            .counter(&PORTAL_REQUESTS, &[method.into(), status.into()])
            .increment(1);
        self.registry
            .histogram(&PORTAL_SECONDS, &[method.into()])
            .record(took);
    }

    /// Counts the start or the end of a session.
    pub(crate) fn session_event(&self, kind: &EventKind) {
        match kind {
            EventKind::Connected(_) => self.of_logins.sessions.increment(1),
            EventKind::Disconnected(end) => {
                self.registry
                    .counter(&DISCONNECTS, &[end.reason.as_str().into()])
                    .increment(1);
                let usage = end.usage.unwrap_or_default();
                self.registry.counter(&BYTES_IN, &[]).increment(usage.received);
                self.registry.counter(&BYTES_OUT, &[]).increment(usage.sent);
            }
        }
    }

    /// A login on the IPC socket was understood.
    pub(crate) fn ipc_login(&self) {
        self.of_logins.requests.increment(1);
    }

    /// Another request on the IPC socket was understood.
    pub(crate) fn ipc_request(&self, reason: &'static str) {
        self.registry
            .counter(&IPC_REQUESTS, &[reason.into()])
            .increment(1);
    }

    /// A session was ended because the policy no longer allows it.
    pub(crate) fn revoked(&self) {
        self.registry.counter(&REVOKED, &[]).increment(1);
    }

    /// Brings up to date what others count.
    pub(crate) fn refresh(&self, now: &Snapshot) {
        let registry = &self.registry;
        let gauge = |metric, labels: &[LabelValue], value: f64| registry.gauge(metric, labels).set(value);
        let total =
            |metric, labels: &[LabelValue], value: u64| registry.counter(metric, labels).absolute(value);
        gauge(
            &ACTIVE_SESSIONS,
            std::slice::from_ref(&self.server_id),
            count(now.sessions),
        );
        gauge(
            &PORTAL_CONNECTED,
            &[],
            if now.portal_connected { 1.0 } else { 0.0 },
        );
        let state = match now.pipeline.breaker_state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        };
        gauge(&BREAKER_STATE, &[PORTAL.into()], state);
        let breaker = &now.pipeline.breaker;
        total(&BREAKER_REQUESTS, &[PORTAL.into()], breaker.requests);
        total(&BREAKER_FAILURES, &[PORTAL.into()], breaker.failures);
        total(&BREAKER_REFUSED, &[PORTAL.into()], breaker.refused);
        let cache = &now.pipeline.cache;
        gauge(&CACHE_SIZE, &[], count(cache.size));
        gauge(&CACHE_HIT_RATIO, &[], cache.hit_ratio());
        total(&CACHE_HITS, &[], cache.hits);
        total(&CACHE_MISSES, &[], cache.misses);
        total(&CACHE_STALE_HITS, &[], cache.stale_hits);
        total(&CACHE_EVICTIONS, &[], cache.evictions);
        gauge(&EVENTS_PENDING, &[], count(now.events.pending));
        total(&EVENTS_DELIVERED, &[], now.events.delivered);
        total(&EVENTS_DROPPED, &["too_many".into()], now.events.dropped);
        total(&EVENTS_DROPPED, &["rejected".into()], now.events.rejected);
        total(&IPC_ERRORS, &["overloaded".into()], now.overloaded);
        total(&IPC_ERRORS, &["bad_request".into()], now.bad_requests);
        total(&IPC_ERRORS, &["accept".into()], now.accept_errors);
        total(&IPC_REJECTED_PEERS, &[], now.refused_peers);
    }
}

/// What others count, read when somebody looks.
pub(crate) struct Snapshot {
    pub(crate) sessions: usize,
    pub(crate) portal_connected: bool,
    pub(crate) pipeline: authz::AuthorizerStats,
    pub(crate) events: outbox::OutboxStats,
    pub(crate) overloaded: u64,
    pub(crate) bad_requests: u64,
    pub(crate) accept_errors: u64,
    pub(crate) refused_peers: u64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of things in memory are far below 2^52"
)]
fn count(things: usize) -> f64 {
    things as f64
}

#[cfg(test)]
mod tests;
