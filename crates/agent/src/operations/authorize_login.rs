//! Authorizes one login: records its start, decides within its deadline, audits the decision.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authz::Authorizer;
use ocserv_agent_model::{Decision, DenyCode, GroupName, Login, Source, Verdict, VhostName, one_line};
use sessions::LoginHandle;
use tokio::time::{Instant, timeout_at};

use super::record_session::SessionRecorder;
use super::register_sessions::PendingSession;
use crate::clock;

/// Longest reason in an audit line, in characters.
const MAX_REASON: usize = 256;

/// The future of [`Decide`].
pub(crate) type DecisionFuture = Pin<Box<dyn Future<Output = Decision> + Send>>;

/// Decides a login by a deadline; a later decision is ignored.
pub(crate) type Decide = Arc<dyn Fn(Arc<Login>, Instant) -> DecisionFuture + Send + Sync>;

/// Authorizes logins.
pub(crate) struct LoginAuthorizer {
    decide: Decide,
    recorder: Arc<SessionRecorder>,
    in_progress: AtomicUsize,
}

/// A decided login whose response is not written yet.
#[derive(Debug)]
pub(crate) struct DecidedLogin {
    login: Arc<Login>,
    decision: Decision,
    handle: LoginHandle,
    /// Time from the accept to the decision.
    duration: Duration,
    /// Logins in progress when this one started, itself included.
    in_progress: usize,
}

impl LoginAuthorizer {
    /// Creates an operation that decides with `decide` and records with `recorder`.
    #[must_use]
    pub(crate) fn new(decide: Decide, recorder: Arc<SessionRecorder>) -> Self {
        Self {
            decide,
            recorder,
            in_progress: AtomicUsize::new(0),
        }
    }

    /// Creates an operation that decides with `authorizer` and records with `recorder`.
    #[must_use]
    pub(crate) fn with_authorizer(authorizer: Authorizer, recorder: Arc<SessionRecorder>) -> Self {
        let decide: Decide = Arc::new(move |login, deadline| {
            let authorizer = authorizer.clone();
            Box::pin(async move { authorizer.decide(&login, deadline).await })
        });
        Self::new(decide, recorder)
    }

    /// Decides `login` by `deadline`, and denies it without a decision by then. Pass the result to
    /// [`Self::finish`] once the response is written or has failed.
    pub(crate) async fn authorize(
        &self,
        login: Arc<Login>,
        arrived: Instant,
        deadline: Instant,
    ) -> DecidedLogin {
        let handle = self.recorder.login_started(&login);
        let in_progress = self.in_progress.fetch_add(1, Ordering::Relaxed) + 1;
        let _guard = InProgress(&self.in_progress);
        let decision = timeout_at(deadline, (self.decide)(Arc::clone(&login), deadline))
            .await
            .unwrap_or_else(|_| deadline_exceeded());
        DecidedLogin {
            login,
            decision,
            handle,
            duration: clock::now() - arrived,
            in_progress,
        }
    }

    /// Audits and records a decided login. Returns the session of an allow that was `written`, for
    /// the caller to register once the helper has read it.
    pub(crate) fn finish(&self, decided: DecidedLogin, written: bool) -> Option<PendingSession> {
        // After the response, so that no client waits for a log line.
        decided.audit();
        let DecidedLogin {
            login,
            decision,
            handle,
            ..
        } = decided;
        if !decision.verdict.is_allow() {
            self.recorder.login_denied(handle);
            return None;
        }
        if !written {
            self.recorder.answer_undelivered(handle, &login);
            return None;
        }
        Some(PendingSession {
            handle,
            login,
            source: decision.source,
        })
    }
}

struct InProgress<'a>(&'a AtomicUsize);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn deadline_exceeded() -> Decision {
    Decision {
        verdict: Verdict::deny(DenyCode::Outage, "no decision before the deadline"),
        source: Source::Agent,
        age: Duration::ZERO,
        outage: None,
    }
}

impl DecidedLogin {
    /// The decision.
    #[must_use]
    pub(crate) fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Writes the audit line of the decision.
    fn audit(&self) {
        let (login, decision) = (&self.login, &self.decision);
        let (outcome, deny_code, reason) = match &decision.verdict {
            Verdict::Allow(_) => ("allow", None, None),
            Verdict::Deny(denial) => (
                "deny",
                Some(denial.code.as_str()),
                Some(one_line(&denial.reason, MAX_REASON)),
            ),
        };
        tracing::info!(
            target: "audit",
            // As a string, which is quoted: a name may contain spaces and look like further fields.
            user = login.username.as_str(),
            group = login.group.as_ref().map(GroupName::as_str),
            client_ip = %login.client_ip,
            id = %login.id,
            vhost = login.vhost.as_ref().map(VhostName::as_str),
            outcome,
            source = %decision.source,
            deny_code,
            reason,
            outage = decision.outage,
            age_ms = u64::try_from(decision.age.as_millis()).unwrap_or(u64::MAX),
            duration_ms = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            in_progress = self.in_progress,
            "login decided"
        );
    }
}
