//! What the agent asks of ocserv, how that ends, and whether ocserv answers.

use std::sync::Arc;

use occtl::{Command, ControlError, Observer};

use super::{Metrics, OCCTL_REQUESTS, OCCTL_SECONDS, OCSERV_UP};

impl Metrics {
    /// Counts what it hears of requests on ocserv's control socket.
    pub(crate) fn control_observer(&self) -> Observer {
        let registry = self.registry();
        Arc::new(move |command, error, took| {
            let command = word(command);
            let status = error.map_or("answered", ending);
            registry
                .counter(&OCCTL_REQUESTS, &[command.into(), status.into()])
                .increment(1);
            registry.histogram(&OCCTL_SECONDS, &[command.into()]).record(took);
            registry
                .gauge(&OCSERV_UP, &[])
                .set(if error.is_none() { 1.0 } else { 0.0 });
        })
    }
}

fn word(command: Command) -> &'static str {
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

fn ending(error: &ControlError) -> &'static str {
    match error {
        ControlError::NotReachable { .. } => "not_reachable",
        ControlError::Refused { .. } | ControlError::Unsupported { .. } => "refused",
        ControlError::Timeout { .. } => "timeout",
        ControlError::WrongReply { .. } | ControlError::Malformed { .. } => "malformed",
        _ => "failed",
    }
}
