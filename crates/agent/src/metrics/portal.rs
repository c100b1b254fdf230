//! Metrics of calls to the portal.

use std::time::Duration;

use authz::QueryEnd;
use telemetry::Kind;

use super::handle::{Metrics, SECONDS, declare};

declare! {
    PORTAL_REQUESTS = "ocserv_agent_portal_requests_total", Kind::Counter, ["method", "status"],
        "Calls to the portal, by how they ended.";
    PORTAL_SECONDS = "ocserv_agent_portal_request_duration_seconds", Kind::Histogram(SECONDS), ["method"],
        "Duration of calls to the portal.";
    PORTAL_CONNECTED = "ocserv_agent_portal_connected", Kind::Gauge, [],
        "1 while the portal is connected, else 0; absent without a portal.";
}

impl Metrics {
    /// Counts a `CheckPolicy` call.
    pub(crate) fn query_ended(&self, end: QueryEnd, duration: Duration) {
        let status = match end {
            QueryEnd::Answered => "answered",
            QueryEnd::Invalidated => "overtaken",
            QueryEnd::Outage => "outage",
            QueryEnd::InvalidAnswer => "invalid",
            QueryEnd::Rejected => "rejected",
            QueryEnd::Cancelled => "cancelled",
        };
        self.portal_called("CheckPolicy", status, duration);
    }

    /// Counts a call of `method` that ended with `status`.
    pub(crate) fn portal_called(&self, method: &'static str, status: &'static str, duration: Duration) {
        self.registry
            .counter(&PORTAL_REQUESTS, &[method.into(), status.into()])
            .increment(1);
        self.registry
            .histogram(&PORTAL_SECONDS, &[method.into()])
            .record(duration);
    }

    /// Sets whether the portal is connected.
    pub(crate) fn set_portal_connected(&self, connected: bool) {
        self.registry
            .gauge(&PORTAL_CONNECTED, &[])
            .set(if connected { 1.0 } else { 0.0 });
    }
}
