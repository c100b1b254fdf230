//! One call: its authorization and its audit line.

use std::sync::Arc;

use tls::Peer;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::roles::{Role, Roles};
use crate::clock;

/// An authorized call in progress, which writes one audit line when it ends. A call that is dropped
/// before was cancelled by its caller or by the time limit; it may have taken effect all the same.
pub(super) struct Call {
    rpc: &'static str,
    caller: String,
    user: Option<String>,
    start: Instant,
    is_finished: bool,
}

impl Call {
    /// Authorizes the call if its caller has at least the role `required`.
    pub(super) fn authorize<T>(
        rpc: &'static str,
        required: Role,
        roles: &Roles,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        // Every connection carries its peer; a request without one did not come over mutual TLS.
        let peer = request.extensions().get::<Arc<Peer>>();
        let caller = peer.map_or_else(|| "[unknown]".to_owned(), |peer| peer.label());
        let mut call = Self {
            rpc,
            caller,
            user: None,
            start: clock::now(),
            is_finished: false,
        };
        let role = peer.and_then(|peer| roles.of(peer));
        if role >= Some(required) {
            return Ok(call);
        }
        let message = match role {
            Some(role) => format!(
                "{} has the role {}; {rpc} needs {}",
                call.caller,
                name(role),
                name(required)
            ),
            None => format!(
                "no name in the certificate of {} has a role in grpc.roles",
                call.caller
            ),
        };
        Err(call.reject(Status::permission_denied(message)))
    }

    /// Sets the user that the audit line names.
    pub(super) fn about(mut self, user: String) -> Self {
        self.user = Some(user);
        self
    }

    /// Writes the audit line of `result`, where `describe` says what was done, and returns the
    /// result.
    pub(super) fn finish<T>(
        mut self,
        result: Result<T, Status>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<Response<T>, Status> {
        let answer = result.map_err(|status| self.reject(status))?;
        self.audit(Code::Ok, &describe(&answer));
        Ok(Response::new(answer))
    }

    /// Writes the audit line of a call that failed with `status`, and returns the status.
    pub(super) fn reject(&mut self, status: Status) -> Status {
        self.audit(status.code(), status.message());
        status
    }

    fn audit(&mut self, code: Code, outcome: &str) {
        self.is_finished = true;
        let duration_ms = u64::try_from((clock::now() - self.start).as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "audit",
            rpc = self.rpc,
            caller = %self.caller,
            user = self.user,
            code = ?code,
            outcome,
            duration_ms,
            "call"
        );
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_finished {
            self.audit(Code::Cancelled, "cancelled before it was answered");
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
    }
}
