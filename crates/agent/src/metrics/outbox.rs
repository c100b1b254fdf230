//! Metrics of the events for the portal.

use std::time::SystemTime;

use outbox::OutboxStats;
use outbox::store::FileProblem;
use telemetry::{Kind, Registry};

use super::handle::{Metrics, declare, gauge_value};

declare! {
    EVENTS_PENDING = "ocserv_agent_outbox_depth", Kind::Gauge, [],
        "Events not yet acknowledged by the portal, on disk and in memory.";
    EVENTS_UNSAVED = "ocserv_agent_outbox_unsaved", Kind::Gauge, [],
        "Events that are not on disk yet: a kill of the agent would lose them. Usage updates are never written and do not count.";
    BYTES = "ocserv_agent_outbox_bytes", Kind::Gauge, [],
        "Bytes of the events not yet acknowledged by the portal. At most `outbox.max_bytes`.";
    OLDEST = "ocserv_agent_outbox_oldest_age_seconds", Kind::Gauge, [],
        "Age of the oldest event not yet acknowledged by the portal; 0 without one.";
    EVENTS_DELIVERED = "ocserv_agent_outbox_delivered_total", Kind::Counter, [],
        "Events acknowledged by the portal.";
    EVENTS_DROPPED = "ocserv_agent_outbox_dropped_total", Kind::Counter, ["kind"],
        "Lost events: a bound dropped a connect, disconnect or update, or one was unreadable on the disk.";
    EVENTS_REJECTED = "ocserv_agent_outbox_rejected_total", Kind::Counter, [],
        "Events that the portal rejected for good. They are in the dead letters.";
    STORE_UP = "ocserv_agent_event_store_up", Kind::Gauge, [],
        "1 while events can be written to the disk, else 0: a restart would lose those since. Absent without a portal.";
    STORE_REPLACED = "ocserv_agent_event_store_incidents_total", Kind::Counter, ["why"],
        "Event stores that were not as this agent had last written them: damaged, outdated, missing, foreign, exposed.";
}

/// Registers the counters that have labels.
pub(super) fn register(registry: &Registry) {
    for why in FileProblem::LABELS {
        let _zero = registry.counter(&STORE_REPLACED, &[why.into()]);
    }
}

impl Metrics {
    /// Sets the outbox' depth and totals; `now` is the time of day.
    pub(crate) fn set_outbox(&self, stats: &OutboxStats, now: SystemTime) {
        let registry = &self.registry;
        let gauge = |metric, value| registry.gauge(metric, &[]).set(value);
        gauge(&EVENTS_PENDING, gauge_value(stats.pending));
        gauge(&EVENTS_UNSAVED, gauge_value(stats.unsaved));
        gauge(
            &BYTES,
            gauge_value(usize::try_from(stats.bytes).unwrap_or(usize::MAX)),
        );
        let age = stats
            .oldest
            .map(|oldest| now.duration_since(oldest).unwrap_or_default());
        gauge(&OLDEST, age.unwrap_or_default().as_secs_f64());
        registry.counter(&EVENTS_DELIVERED, &[]).absolute(stats.delivered);
        registry.counter(&EVENTS_REJECTED, &[]).absolute(stats.rejected);
        let dropped = &stats.dropped;
        for (kind, value) in [
            ("connect", dropped.connects),
            ("disconnect", dropped.disconnects),
            ("update", dropped.updates),
            ("unreadable", dropped.damaged),
        ] {
            registry.counter(&EVENTS_DROPPED, &[kind.into()]).absolute(value);
        }
    }

    /// Sets whether events can be written to the disk.
    pub(crate) fn set_event_store_up(&self, is_up: bool) {
        self.registry
            .gauge(&STORE_UP, &[])
            .set(if is_up { 1.0 } else { 0.0 });
    }

    /// Counts a store that was not as this agent had last written it.
    pub(crate) fn event_store_replaced(&self, why: &'static str) {
        self.registry.counter(&STORE_REPLACED, &[why.into()]).increment(1);
    }
}
