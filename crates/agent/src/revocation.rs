//! Ending sessions that the policy no longer allows: each session that is up is asked about once per interval.
//!
//! The questions are spread evenly over the interval, so that a portal with many servers has no rush every half minute.
//! Without an answer a session goes on: an outage never ends one.

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
use crate::sources::{Authority, Standing};

/// Questions under way at once.
const MAX_QUESTIONS: usize = 8;

/// Looks after the sessions that are up.
#[derive(Clone)]
pub(crate) struct Revocation {
    /// Who is connected.
    pub(crate) ocserv: Ocserv,
    /// Who says whether they may stay.
    pub(crate) authority: Authority,
    /// What ends a session that may not stay.
    pub(crate) disconnect_user: DisconnectUser,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// How often each session is asked about.
    pub(crate) every: Duration,
}

impl Revocation {
    /// Goes round until `stop`; a question under way then is left to its own time limit.
    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_QUESTIONS));
        let mut begin = clock::now() + self.every;
        loop {
            if stop.run_until_cancelled(sleep_until(begin)).await.is_none() {
                return;
            }
            let end = begin.max(clock::now()) + self.every;
            if stop
                .run_until_cancelled(self.round(begin, &slots, &tasks))
                .await
                .is_none()
            {
                return;
            }
            begin = end;
        }
    }

    /// Begins a question about each session, evenly from `begin` on.
    async fn round(&self, begin: Instant, slots: &Arc<Semaphore>, tasks: &TaskTracker) {
        let sessions = match self.ocserv.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "ocserv does not list its sessions: nobody is asked about them this time"
                );
                return;
            }
        };
        let step = self.every / u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
        for (turn, session) in (0_u32..).zip(sessions) {
            sleep_until(begin + step * turn).await;
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
                return;
            };
            let this = self.clone();
            tasks.spawn(async move {
                this.look_at(&session).await;
                drop(slot);
            });
        }
    }

    async fn look_at(&self, session: &LiveSession) {
        let (user, id, uid) = (&session.username, session.id, &session.uid);
        let begin = clock::now();
        let standing = self.authority.standing(session, clock::wall()).await;
        if matches!(self.authority, Authority::Portal(_)) {
            let unknown = matches!(standing, Standing::Unknown(_));
            let status = if unknown { "outage" } else { "answered" };
            self.metrics
                .called("ValidateSession", status, clock::now() - begin);
        }
        match standing {
            Standing::Valid => {}
            Standing::Doubtful(why) => {
                tracing::warn!(target: "session", user, %id, %uid, why, "the policy source does not know this session as valid; it goes on");
            }
            Standing::Unknown(why) => {
                tracing::debug!(%id, %uid, why, "nobody could say whether a session is in order; it goes on");
            }
            Standing::Revoked(why) => self.revoke(session, &why).await,
        }
    }

    async fn revoke(&self, session: &LiveSession, why: &str) {
        let (user, id, uid) = (&session.username, session.id, &session.uid);
        let disconnected =
            self.disconnect_user
                .run_for_session(session, DisconnectReason::PolicyViolation, why);
        match disconnected.await {
            Ok(true) => {
                self.metrics.revoked();
                tracing::info!(target: "session", user, %id, %uid, why, "session revoked");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(target: "session", user, %id, %uid, why, error = error_chain(&error), "could not disconnect a revoked session; the next validation tries again");
            }
        }
    }
}
