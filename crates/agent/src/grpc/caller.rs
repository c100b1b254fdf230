//! One call: whether it may be made, and the audit line that it leaves.

use std::sync::Arc;

use tls::Peer;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::roles::{Role, Roles};
use crate::clock;

/// A call that is under way. One that is dropped before it is done was cut off, by its caller or by the time limit, and
/// says so in its audit line: it may have done its work all the same.
pub(super) struct Call {
    rpc: &'static str,
    caller: String,
    user: Option<String>,
    since: Instant,
    done: bool,
}

impl Call {
    /// Lets the call in if its caller has at least the role `needed`.
    pub(super) fn admit<T>(
        rpc: &'static str,
        needed: Role,
        roles: &Roles,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        // Every connection carries its peer; a request without one came from somewhere else and may do nothing.
        let peer = request.extensions().get::<Arc<Peer>>();
        let caller = peer.map_or_else(|| "[unknown]".to_owned(), |peer| peer.label());
        let mut call = Self {
            rpc,
            caller,
            user: None,
            since: clock::now(),
            done: false,
        };
        let role = peer.and_then(|peer| roles.of(peer));
        if role >= Some(needed) {
            return Ok(call);
        }
        let refusal = Status::permission_denied(match role {
            Some(role) => format!(
                "{} has the role {}; {rpc} needs {}",
                call.caller,
                word(role),
                word(needed)
            ),
            None => format!(
                "no name in the certificate of {} has a role in grpc.roles",
                call.caller
            ),
        });
        call.done(Code::PermissionDenied, refusal.message());
        Err(refusal)
    }

    /// Whom the call is about, for the audit line.
    pub(super) fn about(mut self, user: String) -> Self {
        self.user = Some(user);
        self
    }

    /// The call has ended: the audit line says so.
    pub(super) fn done(&mut self, code: Code, outcome: &str) {
        self.done = true;
        self.audit(code, outcome);
    }

    /// Who called what about whom, and what came of it.
    fn audit(&self, code: Code, outcome: &str) {
        let duration_ms = u64::try_from((clock::now() - self.since).as_millis()).unwrap_or(u64::MAX);
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
        if !self.done {
            self.audit(Code::Cancelled, "cut off before it was answered");
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
    }
}
