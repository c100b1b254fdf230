//! The control stream: the portal's instructions, which work from behind NAT, and the agent's
//! reports.
//!
//! The portal crate keeps the stream; here is the endpoint. An action is parsed, authorized by
//! `portal.role`, executed by one operation and answered once, with an audit line. Actions begin in
//! the order of the instructions; those that wait go on side by side. A repeated `request_id` gets
//! the same result and has no second effect.

mod action;
mod execute;
mod registration;
mod reports;
mod results;
mod system;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use portal::{ControlSender, Instruction, InstructionKind, Notification};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::operations::role::Role;
use action::Action;
use execute::Outcome;
use results::{Begun, Results};

pub(crate) use execute::Operations;
pub(crate) use registration::{Registration, RegistrationSources};
pub(crate) use reports::{ReportSources, Reporter};

/// Instructions that wait; the stream is not read while there are more.
const MAX_WAITING: usize = 64;
/// Most actions that are executed at once.
const MAX_ACTIONS: usize = 16;
/// Longest time that a stop waits for actions in progress. The caller waits no longer either.
const STOP_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Executes the portal's instructions.
pub(crate) struct Endpoint {
    pub(crate) sender: ControlSender,
    pub(crate) operations: Operations,
    /// What the portal may do.
    pub(crate) role: Live<Role>,
    pub(crate) metrics: Metrics,
}

/// Creates the queue of instructions.
pub(crate) fn instructions() -> (mpsc::Sender<Instruction>, mpsc::Receiver<Instruction>) {
    mpsc::channel(MAX_WAITING)
}

/// Why an action was not executed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Action(#[from] action::ActionError),
    #[error("portal.role is {0}; {1} needs {2}")]
    Role(&'static str, String, &'static str),
}

impl Endpoint {
    /// Executes instructions until `stop`; then deregisters, sends the results of actions in
    /// progress and ends the stream.
    pub(crate) async fn run(self, mut instructions: mpsc::Receiver<Instruction>, stop: CancellationToken) {
        let this = Arc::new(self);
        let (actions, permits) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_ACTIONS)));
        let mut results = Results::default();
        while let Some(Some(instruction)) = stop.run_until_cancelled(instructions.recv()).await {
            let Instruction { request_id, kind } = instruction;
            let InstructionKind::Action { name, parameters } = kind else {
                this.refuse(&request_id, &kind);
                continue;
            };
            let slot = match results.begin(&request_id) {
                Begun::New(slot) => slot,
                Begun::Again(result) => {
                    tracing::info!(target: "audit", action = name, request_id, "repeated action: not executed again");
                    if let Some(result) = result {
                        this.sender.notify(&result);
                    }
                    continue;
                }
            };
            // The semaphore is never closed.
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = stop.cancelled() => break,
            };
            let this = Arc::clone(&this);
            let mut action = Box::pin(async move {
                let _permit = permit;
                let result = this.answer(&request_id, &name, parameters).await;
                this.sender.notify(&result);
                slot.set(result);
            });
            // What does not wait is executed here, in the order of the instructions; tasks would
            // run in any order.
            if (&mut action).now_or_never().is_none() {
                actions.spawn(action);
            }
        }
        this.operations.notifications.deregistered();
        actions.close();
        let _elapsed = timeout(STOP_TIMEOUT, actions.wait()).await;
        this.sender.close();
    }

    /// Executes an action, writes its audit line and returns its result for the portal.
    async fn answer(
        &self,
        request_id: &str,
        name: &str,
        parameters: std::collections::BTreeMap<String, String>,
    ) -> Notification {
        let start = clock::now();
        let parsed = Action::parse(name, parameters).map_err(Refused::from);
        let (label, user) = match &parsed {
            Ok(action) => (action.name(), action.user().map(str::to_owned)),
            Err(_) => ("unknown", None),
        };
        let executed = AssertUnwindSafe(self.execute(parsed)).catch_unwind().await;
        let (outcome, result) = executed.unwrap_or_else(|_panic| {
            let error = "the agent panicked while it executed the action: see its log";
            (Outcome::failed(error), "failed")
        });
        self.metrics.control_action(label, result);
        let duration_ms = u64::try_from((clock::now() - start).as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "audit",
            action = name,
            request_id,
            caller = "portal",
            user,
            result,
            outcome = outcome.sentence(),
            duration_ms,
            "action"
        );
        outcome.notification(request_id, name)
    }

    /// Executes an action that the role permits; returns its outcome and the name of its result.
    async fn execute(&self, parsed: Result<Action, Refused>) -> (Outcome, &'static str) {
        match parsed.and_then(|action| self.authorize(action)) {
            Ok(action) => {
                let outcome = self.operations.execute(action).await;
                let result = if outcome.error.is_none() { "done" } else { "failed" };
                (outcome, result)
            }
            Err(refused) => (Outcome::failed(refused.to_string()), "refused"),
        }
    }

    fn authorize(&self, action: Action) -> Result<Action, Refused> {
        let (role, required) = (*self.role.current(), self.operations.required_role(&action));
        match role >= required {
            true => Ok(action),
            false => Err(Refused::Role(role.as_str(), action.describe(), required.as_str())),
        }
    }

    fn refuse(&self, request_id: &str, kind: &InstructionKind) {
        let (name, error) = match kind {
            InstructionKind::Command => ("command", "this agent runs no commands"),
            InstructionKind::ConfigUpdate => ("config_update", "this agent writes no files of ocserv"),
            InstructionKind::Action { .. } => return,
        };
        self.metrics.control_action("unknown", "refused");
        tracing::info!(target: "audit", action = name, request_id, caller = "portal", result = "refused", outcome = error, "action");
        self.sender.refuse(request_id, kind, error);
    }
}

#[cfg(test)]
mod tests;
