//! Validates connected sessions, reports their usage, and disconnects those that the policy backend
//! revokes.
//!
//! Each session has its turn once per interval. The turns are spread evenly over the interval, so
//! that a portal with many servers gets no burst. An outage disconnects no session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ocserv::{LiveSession, Ocserv};
use ocserv_agent_model::{DisconnectReason, Event, OcservId, error_chain};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::metrics::Metrics;
use crate::operations::disconnect_user::DisconnectUser;
use crate::operations::policy_backend::{PolicyBackend, SessionValidity};
use crate::operations::record_session::SessionRecorder;

/// Most sessions that are validated at once.
const MAX_VALIDATIONS: usize = 8;

/// Most revoked sessions that are disconnected at once. One takes up to 5 s, and [`Ocserv`] starts
/// 50 a second: with fewer, sessions that end slowly would delay the others.
const MAX_REVOCATIONS: usize = 256;

/// Validates the connected sessions; clones share everything.
#[derive(Clone)]
pub(crate) struct SessionValidator {
    pub(crate) ocserv: Ocserv,
    pub(crate) recorder: Arc<SessionRecorder>,
    pub(crate) policy: PolicyBackend,
    pub(crate) disconnect_user: DisconnectUser,
    pub(crate) metrics: Metrics,
    /// Time between two validations of a session.
    pub(crate) interval: Duration,
}

/// The sessions that are connected, for one pass over them.
pub(crate) struct SessionsPass {
    /// When the pass begins.
    pub(crate) start: Instant,
    /// As ocserv listed them.
    pub(crate) sessions: Vec<LiveSession>,
    /// What the portal is told about them.
    pub(crate) updates: Vec<Event>,
}

/// A portal's answer to an update that demands the end of its session.
#[derive(Debug)]
pub(crate) struct DisconnectDemand {
    pub(crate) update: Event,
    pub(crate) reason: String,
}

/// Bounds what runs at once; clones share it.
#[derive(Clone)]
struct Permits {
    validations: Arc<Semaphore>,
    revocations: Arc<Semaphore>,
}

impl SessionValidator {
    /// Validates the sessions of each pass until `stop`; requests in flight then end within their
    /// own timeout.
    pub(crate) async fn run(
        self,
        mut passes: mpsc::Receiver<SessionsPass>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let permits = Permits {
            validations: Arc::new(Semaphore::new(MAX_VALIDATIONS)),
            revocations: Arc::new(Semaphore::new(MAX_REVOCATIONS)),
        };
        while let Some(Some(pass)) = stop.run_until_cancelled(passes.recv()).await {
            let validations = self.validate_all(pass, &permits, &tasks);
            if stop.run_until_cancelled(validations).await.is_none() {
                return;
            }
        }
    }

    /// Disconnects the sessions whose end the portal demands, until `stop`.
    pub(crate) async fn obey(self, mut demands: mpsc::Receiver<DisconnectDemand>, stop: CancellationToken) {
        while let Some(Some(demand)) = stop.run_until_cancelled(demands.recv()).await {
            let DisconnectDemand { update, reason } = demand;
            let Some(connected_at) = self.recorder.connected_at(&update) else {
                continue;
            };
            match self.ocserv.connection(update.id).await {
                Ok(Some(session)) if session.connected_at == connected_at => {
                    self.revoke(&session, &reason).await;
                }
                Ok(_) => {}
                Err(error) => {
                    let (id, uid, error) = (update.id, &update.uid, error_chain(&error));
                    tracing::warn!(%id, %uid, error, "could not disconnect a session as the portal demands: retrying at its next update");
                }
            }
        }
    }

    /// Reports each session and spawns its validation, spread evenly over the interval.
    async fn validate_all(&self, pass: SessionsPass, permits: &Permits, tasks: &TaskTracker) {
        let updates = pass.updates.into_iter().map(|update| (update.id, update));
        let mut updates: HashMap<OcservId, Event> = updates.collect();
        let step = self.interval / u32::try_from(pass.sessions.len().max(1)).unwrap_or(u32::MAX);
        for (index, session) in (0_u32..).zip(pass.sessions) {
            sleep_until(pass.start + step * index).await;
            if let Some(update) = updates.remove(&session.id) {
                self.recorder.session_updated(update);
            }
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
