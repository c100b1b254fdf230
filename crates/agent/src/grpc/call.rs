//! One call: its authorization and its audit line.

use std::sync::Arc;

use tls::Peer;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::roles::{Role, Roles};
use crate::clock;

/// An authorized call in progress; writes one audit line when it ends. A call that is dropped was
/// cancelled by its caller or by the time limit, and may have taken effect.
pub(super) struct Call {
    rpc: &'static str,
    caller: String,
    user: Option<String>,
    start: Instant,
    is_finished: bool,
}

impl Call {
    /// Authorizes the call if its caller has the role `required` or a higher one.
    pub(super) fn authorize<T>(
        rpc: &'static str,
        required: Role,
        roles: &Roles,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        // Set on every connection over mutual TLS.
        let peer = request.extensions().get::<Arc<Peer>>();
        let caller = peer.map_or_else(|| "[unknown]".to_owned(), |peer| peer.label());
        let mut call = Self {
            rpc,
            caller,
            user: None,
            start: clock::now(),
            is_finished: false,
        };
        let role = peer.and_then(|peer| roles.role_of(peer));
        if role >= Some(required) {
            return Ok(call);
        }
        let message = match role {
            Some(role) => format!(
                "{} has the role {}; {rpc} needs {}",
                call.caller,
                role.as_str(),
                required.as_str()
            ),
            None => format!(
                "no name in the certificate of {} has a role in grpc.roles",
                call.caller
            ),
        };
        Err(call.reject(Status::permission_denied(message)))
    }

    /// Sets the user that the audit line names.
    pub(super) fn with_user(mut self, user: String) -> Self {
        self.user = Some(user);
        self
    }

    /// Writes the audit line of `result`, with the outcome from `describe`, and returns the result.
    pub(super) fn finish<T>(
        mut self,
        result: Result<T, Status>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<Response<T>, Status> {
        let response = result.map_err(|status| self.reject(status))?;
        self.audit(Code::Ok, &describe(&response));
        Ok(Response::new(response))
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
            self.audit(Code::Cancelled, "cancelled before its response");
        }
    }
}
