//! Validates connected sessions, and disconnects those that the policy backend revokes.
//!
//! Each session is validated once per interval. The requests are spread evenly over the interval,
//! so that a portal with many servers gets no burst. An outage disconnects no session.

use std::sync::Arc;
use std::time::Duration;

use ocserv::{LiveSession, Ocserv};
use ocserv_agent_model::{DisconnectReason, error_chain};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::metrics::Metrics;
use crate::operations::disconnect_user::DisconnectUser;
use crate::operations::policy_backend::{PolicyBackend, SessionValidity};
use crate::operations::resync::ValidationRequest;

/// Most sessions that are validated at once.
const MAX_VALIDATIONS: usize = 8;

/// Most revoked sessions that are disconnected at once. One takes up to 5 s, and [`Ocserv`] starts
/// 50 a second: with fewer, sessions that end slowly would delay the others.
const MAX_REVOCATIONS: usize = 256;

/// Validates the connected sessions; clones share everything.
#[derive(Clone)]
pub(crate) struct SessionValidator {
    pub(crate) ocserv: Ocserv,
    pub(crate) policy: PolicyBackend,
    pub(crate) disconnect_user: DisconnectUser,
    pub(crate) metrics: Metrics,
    /// Time between two validations of a session.
    pub(crate) interval: Duration,
    /// Requests to validate all sessions now.
    pub(crate) requests: ValidationRequest,
}

/// Bounds what runs at once; clones share it.
#[derive(Clone)]
struct Permits {
    validations: Arc<Semaphore>,
    revocations: Arc<Semaphore>,
}

impl SessionValidator {
    /// Validates until `stop`; requests in flight then end within their own timeout.
    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let permits = Permits {
            validations: Arc::new(Semaphore::new(MAX_VALIDATIONS)),
            revocations: Arc::new(Semaphore::new(MAX_REVOCATIONS)),
        };
        let mut start = clock::now() + self.interval;
        loop {
            let due = async {
                tokio::select! {
                    () = sleep_until(start) => {}
                    () = self.requests.requested() => start = clock::now(),
                }
            };
            if stop.run_until_cancelled(due).await.is_none() {
                return;
            }
            let end = start.max(clock::now()) + self.interval;
            let validations = self.validate_all(start, &permits, &tasks);
            if stop.run_until_cancelled(validations).await.is_none() {
                return;
            }
            start = end;
        }
    }

    /// Spawns a validation of each session, spread evenly over the interval from `start` on.
    async fn validate_all(&self, start: Instant, permits: &Permits, tasks: &TaskTracker) {
        let sessions = match self.ocserv.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(
                    error,
                    "could not list sessions: none is validated in this interval"
                );
                return;
            }
        };
        let step = self.interval / u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
        for (index, session) in (0_u32..).zip(sessions) {
            sleep_until(start + step * index).await;
            // The semaphores are never closed.
            let Ok(validation) = Arc::clone(&permits.validations).acquire_owned().await else {
                return;
            };
            let (this, revocations) = (self.clone(), Arc::clone(&permits.revocations));
            tasks.spawn(async move {
                let Some(reason) = this.validate(&session).await else {
                    return;
                };
                // Held until then, so that tasks do not pile up.
                let revocation = revocations.acquire_owned().await;
                drop(validation);
                this.revoke(&session, &reason).await;
                drop(revocation);
            });
        }
    }

    /// Returns the reason for which `session` must be disconnected.
    async fn validate(&self, session: &LiveSession) -> Option<String> {
        let (user, id, uid) = (&session.username, session.id, &session.uid);
        let start = clock::now();
        let validity = self.policy.validate(session, clock::wall()).await;
        if matches!(self.policy, PolicyBackend::Portal(_)) {
            let is_outage = matches!(validity, SessionValidity::Unknown(_));
            let status = if is_outage { "outage" } else { "answered" };
            self.metrics
                .portal_called("ValidateSession", status, clock::now() - start);
        }
        match validity {
            SessionValidity::Valid => {}
            SessionValidity::Invalid(reason) => {
                tracing::warn!(target: "session", user, %id, %uid, reason, "session invalid but not revoked: it stays connected");
            }
            SessionValidity::Unknown(error) => {
                tracing::debug!(%id, %uid, error, "could not validate a session: it stays connected");
            }
            SessionValidity::Revoked(reason) => return Some(reason),
        }
        None
    }

    async fn revoke(&self, session: &LiveSession, reason: &str) {
        let (user, id, uid) = (&session.username, session.id, &session.uid);
        let disconnected =
            self.disconnect_user
                .run_for_session(session, DisconnectReason::PolicyViolation, reason);
        match disconnected.await {
            Ok(true) => {
                self.metrics.session_revoked();
                tracing::info!(target: "session", user, %id, %uid, reason, "session revoked");
            }
            Ok(false) => {}
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(target: "session", user, %id, %uid, reason, error, "could not disconnect a revoked session: retrying at its next validation");
            }
        }
    }
}

#[cfg(test)]
mod tests;
