//! Metrics of the certificates in use.

use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::Kind;

use super::handle::{Metrics, declare};

declare! {
    EXPIRY = "ocserv_agent_certificate_expiry_timestamp_seconds", Kind::Gauge, ["certificate"],
        "When the first certificate of a file expires, in seconds since 1970: portal_client, portal_ca, grpc_server, grpc_ca.";
}

impl Metrics {
    /// Sets when `certificate` expires.
    pub(crate) fn set_certificate_expiry(&self, certificate: &'static str, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.registry.gauge(&EXPIRY, &[certificate.into()]).set(seconds);
    }
}
