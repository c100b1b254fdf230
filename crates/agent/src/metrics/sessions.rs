//! Metrics of sessions.

use ocserv_agent_model::{DisconnectReason, EventKind, Usage};
use telemetry::{Kind, Registry};

use super::handle::{Metrics, declare, gauge_value};

declare! {
    ACTIVE_SESSIONS = "ocserv_agent_active_sessions", Kind::Gauge, ["server_id"],
        "Connected sessions that the agent knows.";
    TOTAL_SESSIONS = "ocserv_total_sessions", Kind::Counter, [],
        "Sessions that connected since the agent started.";
    BYTES_IN = "ocserv_bytes_in_total", Kind::Counter, [],
        "Bytes received from clients: sampled while a session is connected, ocserv's own count at its end.";
    BYTES_OUT = "ocserv_bytes_out_total", Kind::Counter, [],
        "Bytes sent to clients: sampled while a session is connected, ocserv's own count at its end.";
    DISCONNECTS = "ocserv_disconnect_total", Kind::Counter, ["reason"],
        "Sessions that disconnected, by reason. ocserv passes none to its scripts: only disconnects by the agent have one.";
    REVOKED = "ocserv_agent_revoked_sessions_total", Kind::Counter, [],
        "Sessions disconnected because the policy no longer allows them.";
}

/// Registers the series that are 0 before their first event.
pub(super) fn register(registry: &Registry) {
    for reason in DisconnectReason::ALL {
        let _zero = registry.counter(&DISCONNECTS, &[reason.as_str().into()]);
    }
    for metric in [&TOTAL_SESSIONS, &BYTES_IN, &BYTES_OUT, &REVOKED] {
        let _zero = registry.counter(metric, &[]);
    }
}

impl Metrics {
    /// Counts a session that connected or disconnected.
    pub(crate) fn session_event(&self, kind: &EventKind) {
        match kind {
            EventKind::Connected(_) => self.registry.counter(&TOTAL_SESSIONS, &[]).increment(1),
            EventKind::Disconnected(disconnected) => {
                let reason = disconnected.reason.as_str();
                self.registry.counter(&DISCONNECTS, &[reason.into()]).increment(1);
            }
            EventKind::Updated(_) => {}
        }
    }

    /// Counts bytes that are newly known to have moved.
    pub(crate) fn session_traffic(&self, traffic: Usage) {
        if traffic != Usage::default() {
            self.registry.counter(&BYTES_IN, &[]).increment(traffic.received);
            self.registry.counter(&BYTES_OUT, &[]).increment(traffic.sent);
        }
    }

    /// Counts a session that was disconnected because the policy no longer allows it.
    pub(crate) fn session_revoked(&self) {
        self.registry.counter(&REVOKED, &[]).increment(1);
    }

    /// Sets the number of connected sessions.
    pub(crate) fn set_sessions(&self, connected: usize) {
        let labels = [self.server_id.clone()];
        self.registry
            .gauge(&ACTIVE_SESSIONS, &labels)
            .set(gauge_value(connected));
    }
}
