//! Executes an action by one operation.

use std::collections::BTreeMap;
use std::fmt::Display;

use ocserv_agent_model::{DisconnectReason, error_chain};
use portal::Notification;

use super::action::Action;
use crate::operations::disconnect_user::{DisconnectSummary, DisconnectUser};
use crate::operations::drain::Drain;
use crate::operations::invalidate_decisions::InvalidateDecisions;
use crate::operations::notifications::Notifications;
use crate::operations::request_reload::RequestReload;
use crate::operations::resync::Resync;
use crate::operations::role::Role;
use crate::operations::runtime_switches::RuntimeSwitches;

/// The operations behind the actions.
pub(crate) struct Operations {
    pub(crate) disconnect_user: DisconnectUser,
    pub(crate) invalidate: InvalidateDecisions,
    pub(crate) switches: RuntimeSwitches,
    pub(crate) resync: Resync,
    pub(crate) reload: RequestReload,
    pub(crate) drain: Drain,
    pub(crate) notifications: Notifications,
}

/// What an action has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why it failed, at least in part.
    pub(super) error: Option<String>,
    message: String,
    details: BTreeMap<&'static str, String>,
}

impl Outcome {
    fn done(message: impl Into<String>) -> Self {
        Self {
            error: None,
            message: message.into(),
            details: BTreeMap::new(),
        }
    }

    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::done("")
        }
    }

    fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.details.insert(key, format!("{value}"));
        self
    }

    /// What happened, in one sentence.
    pub(super) fn sentence(&self) -> &str {
        self.error.as_deref().unwrap_or(&self.message)
    }

    /// The result for the portal: the same event in all repetitions.
    pub(super) fn notification(&self, request_id: &str, action: &str) -> Notification {
        let mut result = Notification::new("action_result", self.sentence())
            .with("request_id", request_id)
            .with("action", action)
            .with("success", self.error.is_none());
        if let Some(error) = &self.error {
            result = result.with("error", error);
        }
        for (key, value) in &self.details {
            result = result.with(key, value);
        }
        result.event_id = Some(format!("action_result/{request_id}"));
        result
    }
}

impl Operations {
    /// Returns the role that `action` needs.
    pub(super) fn required_role(&self, action: &Action) -> Role {
        match action {
            Action::SetFailMode(Some((mode, _))) => self.switches.required_role(*mode),
            Action::SetFailMode(None)
            | Action::DisconnectUser { .. }
            | Action::InvalidateUser(_)
            | Action::InvalidateAll
            | Action::ForceOnline(_)
            | Action::Resync
            | Action::Reload
            | Action::Drain
            | Action::Resume => Role::Operator,
        }
    }

    pub(super) async fn execute(&self, action: Action) -> Outcome {
        match action {
            Action::DisconnectUser {
                username,
                reason,
                only_one,
            } => {
                let forced = DisconnectReason::AdminForced;
                match self
                    .disconnect_user
                    .run(&username, only_one, forced, &reason)
                    .await
                {
                    Ok(summary) => disconnected(&summary),
                    Err(error) => Outcome::failed(error_chain(&error)),
                }
            }
            Action::InvalidateUser(username) => invalidated(self.invalidate.user(&username)),
            Action::InvalidateAll => {
                let invalidate = self.invalidate.clone();
                match tokio::task::spawn_blocking(move || invalidate.all()).await {
                    Ok(decisions) => invalidated(decisions),
                    Err(error) => Outcome::failed(error.to_string()),
                }
            }
            Action::SetFailMode(switch) => self.set_fail_mode(switch),
            Action::ForceOnline(Some(duration)) => {
                let until = self.switches.force_online(duration);
                Outcome::done(format!("logins are forced online until {until}")).with("until", until)
            }
            Action::ForceOnline(None) => {
                self.switches.end_force_online();
                Outcome::done("logins are not forced online")
            }
            Action::Resync => match self.resync.run().await {
                Ok(sessions) => Outcome::done("resynchronized with ocserv").with("sessions", sessions),
                Err(error) => Outcome::failed(error_chain(&error)),
            },
            Action::Reload => match self.reload.run().await {
                problems if problems.is_empty() => Outcome::done("reloaded"),
                problems => Outcome::failed(problems.join("; ")),
            },
            Action::Drain => self.start_drain().await,
            Action::Resume => {
                self.drain.resume();
                Outcome::done("the agent serves as before")
            }
        }
    }

    fn set_fail_mode(&self, switch: Option<(resilience::FailMode, std::time::Duration)>) -> Outcome {
        let Some((mode, duration)) = switch else {
            self.switches.reset_fail_mode();
            return Outcome::done("the configured fail mode decides");
        };
        match self.switches.set_fail_mode(mode, duration) {
            Ok(until) => Outcome::done(format!("the fail mode is {mode} until {until}")).with("until", until),
            Err(error) => Outcome::failed(error.to_string()),
        }
    }

    async fn start_drain(&self) -> Outcome {
        let summary = self.drain.start().await;
        let outcome = match &summary.stored {
            Ok(()) => Outcome::done("the agent is draining"),
            Err(error) => Outcome::failed(format!("the agent is draining, but {error}")),
        };
        outcome.with("events_pending", summary.pending)
    }
}

/// Success means that no session, pending login or cookie of the user is left, and that the
/// revocation is stored.
fn disconnected(summary: &DisconnectSummary) -> Outcome {
    let problems = summary.problems();
    let outcome = match problems.is_empty() {
        true => Outcome::done(format!("{} sessions disconnected", summary.disconnected)),
        false => Outcome::failed(problems.join("; ")),
    };
    outcome.with("sessions_disconnected", summary.disconnected)
}

fn invalidated(decisions: usize) -> Outcome {
    Outcome::done(format!("{decisions} cached decisions dropped")).with("decisions", decisions)
}
