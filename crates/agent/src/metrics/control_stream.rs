//! Metrics of the control stream, and of what the portal switches over it.

use portal::ControlStats;
use resilience::FailMode;
use telemetry::Kind;

use super::handle::{Metrics, declare, gauge_value};

declare! {
    CONNECTED = "ocserv_agent_control_stream_connected", Kind::Gauge, [],
        "1 while the control stream to the portal is open, else 0; absent without one.";
    PENDING = "ocserv_agent_control_stream_pending", Kind::Gauge, [],
        "Events on the control stream that the portal has not acknowledged.";
    DROPPED = "ocserv_agent_control_stream_dropped_total", Kind::Counter, [],
        "Events on the control stream that were dropped, because more than 256 were pending.";
    ACTIONS = "ocserv_agent_control_actions_total", Kind::Counter, ["action", "result"],
        "Actions of the portal, by how they ended: done, failed, refused.";
    FAIL_MODE = "ocserv_agent_fail_mode", Kind::Gauge, ["mode"],
        "1 for the fail mode in effect, else 0.";
    FAIL_MODE_SWITCHED = "ocserv_agent_fail_mode_switched", Kind::Gauge, [],
        "1 while the portal has switched the fail mode, else 0.";
    FORCE_ONLINE = "ocserv_agent_force_online", Kind::Gauge, [],
        "1 while the portal forces logins online, so that nothing cached decides, else 0.";
    DRAINING = "ocserv_agent_draining", Kind::Gauge, [],
        "1 while the agent is draining, else 0.";
}

impl Metrics {
    /// Sets the state and totals of the control stream.
    pub(crate) fn set_control_stream(&self, stats: &ControlStats) {
        let registry = &self.registry;
        registry.gauge(&CONNECTED, &[]).set(flag(stats.connected));
        registry.gauge(&PENDING, &[]).set(gauge_value(stats.pending));
        registry.counter(&DROPPED, &[]).absolute(stats.dropped);
    }

    /// Counts an action of the portal.
    pub(crate) fn control_action(&self, action: &'static str, result: &'static str) {
        self.registry
            .counter(&ACTIONS, &[action.into(), result.into()])
            .increment(1);
    }

    /// Sets the fail mode in effect, and the switches of the portal.
    pub(crate) fn set_switches(&self, effective: FailMode, is_switched: bool, is_forced_online: bool) {
        let registry = &self.registry;
        for mode in FailMode::ALL {
            registry
                .gauge(&FAIL_MODE, &[mode.as_str().into()])
                .set(flag(mode == effective));
        }
        registry.gauge(&FAIL_MODE_SWITCHED, &[]).set(flag(is_switched));
        registry.gauge(&FORCE_ONLINE, &[]).set(flag(is_forced_online));
    }

    /// Sets whether the agent is draining.
    pub(crate) fn set_draining(&self, is_draining: bool) {
        self.registry.gauge(&DRAINING, &[]).set(flag(is_draining));
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}
