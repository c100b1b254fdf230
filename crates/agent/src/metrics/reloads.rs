//! Metrics of what is read again while the agent runs.

use telemetry::Kind;

use super::handle::{Metrics, declare};

declare! {
    FAILED = "ocserv_agent_reload_failed", Kind::Gauge, ["what"],
        "1 while the last one that was read is refused and what was in effect before stays, else 0: config, certificates, policy.";
}

impl Metrics {
    /// Sets whether the last `what` that was read is refused.
    pub(crate) fn set_reload_failed(&self, what: &'static str, failed: bool) {
        let value = if failed { 1.0 } else { 0.0 };
        self.registry.gauge(&FAILED, &[what.into()]).set(value);
    }
}
