//! Metrics of the events for the portal.

use outbox::OutboxStats;
use telemetry::Kind;

use super::handle::{Metrics, declare, gauge_value};

declare! {
    EVENTS_PENDING = "ocserv_agent_outbox_depth", Kind::Gauge, [],
        "Events not yet acknowledged by the portal.";
    EVENTS_DELIVERED = "ocserv_agent_outbox_delivered_total", Kind::Counter, [],
        "Events acknowledged by the portal.";
    EVENTS_DROPPED = "ocserv_agent_outbox_dropped_total", Kind::Counter, ["why"],
        "Lost events: more than events.max_pending waited, or the portal rejected the event.";
}

impl Metrics {
    /// Sets the outbox' depth and totals.
    pub(crate) fn set_outbox(&self, stats: &OutboxStats) {
        let registry = &self.registry;
        registry
            .gauge(&EVENTS_PENDING, &[])
            .set(gauge_value(stats.pending));
        registry.counter(&EVENTS_DELIVERED, &[]).absolute(stats.delivered);
        for (why, value) in [("too_many", stats.dropped), ("rejected", stats.rejected)] {
            registry.counter(&EVENTS_DROPPED, &[why.into()]).absolute(value);
        }
    }
}
