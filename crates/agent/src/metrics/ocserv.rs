//! Metrics of requests on ocserv's control socket.

use std::sync::Arc;

use occtl::{Command, ControlError, Observer};
use telemetry::{Kind, Registry};

use super::handle::{Metrics, SECONDS, declare};

declare! {
    OCSERV_UP = "ocserv_agent_ocserv_up", Kind::Gauge, [],
        "1 when ocserv answered the last request on its control socket, else 0. Probed every 10 s.";
    OCCTL_REQUESTS = "ocserv_agent_occtl_requests_total", Kind::Counter, ["command", "status"],
        "Requests to ocserv on its control socket, by how they ended: answered, not_reachable, refused, timeout, malformed, failed.";
    OCCTL_SECONDS = "ocserv_agent_occtl_request_duration_seconds", Kind::Histogram(SECONDS), ["command"],
        "Duration of requests on ocserv's control socket.";
}

/// Registers the gauge that is 0 before the first request.
pub(super) fn register(registry: &Registry) {
    registry.gauge(&OCSERV_UP, &[]).set(0.0);
}

impl Metrics {
    /// Returns an observer that counts every request on ocserv's control socket.
    pub(crate) fn control_observer(&self) -> Observer {
        let registry = self.registry();
        Arc::new(move |command, error, duration| {
            let command = label(command);
            let status = error.map_or("answered", status);
            registry
                .counter(&OCCTL_REQUESTS, &[command.into(), status.into()])
                .increment(1);
            registry
                .histogram(&OCCTL_SECONDS, &[command.into()])
                .record(duration);
            registry
                .gauge(&OCSERV_UP, &[])
                .set(if error.is_none() { 1.0 } else { 0.0 });
        })
    }
}

fn label(command: Command) -> &'static str {
    match command {
        Command::Status => "status",
        Command::List => "list",
        Command::User => "user",
        Command::Id => "id",
        Command::DisconnectUser | Command::DisconnectId => "disconnect",
        Command::ListCookies => "cookies",
        Command::TerminateUser | Command::TerminateSession => "terminate",
        _ => "other",
    }
}

fn status(error: &ControlError) -> &'static str {
    match error {
        ControlError::NotReachable { .. } => "not_reachable",
        ControlError::Refused { .. } | ControlError::Unsupported { .. } => "refused",
        ControlError::Timeout { .. } => "timeout",
        ControlError::WrongReply { .. } | ControlError::Malformed { .. } => "malformed",
        _ => "failed",
    }
}
