//! Authorizes one login: records that it waits, decides within its deadline, audits the decision.

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

/// The longest reason in an audit line, in characters.
const MAX_REASON: usize = 256;

/// The decision on one login, in progress.
pub(crate) type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;

/// Decides a login by the given time; a later decision is not waited for.
pub(crate) type Decide = Arc<dyn Fn(Arc<Login>, Instant) -> Deciding + Send + Sync>;

/// Authorizes logins.
pub(crate) struct LoginAuthorizer {
    decide: Decide,
    recorder: Arc<SessionRecorder>,
    waiting: AtomicUsize,
}

/// A decided login whose answer is not written yet.
#[derive(Debug)]
pub(crate) struct DecidedLogin {
    login: Arc<Login>,
    decision: Decision,
    handle: LoginHandle,
    /// From the helper's connection to the decision.
    took: Duration,
    /// Logins in progress at that moment, this one included.
    waiting: usize,
}

impl LoginAuthorizer {
    /// Creates an operation that decides with `decide` and records with `recorder`.
    #[must_use]
    pub(crate) fn new(decide: Decide, recorder: Arc<SessionRecorder>) -> Self {
        Self {
            decide,
            recorder,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Decides with `authorizer`.
    #[must_use]
    pub(crate) fn with(authorizer: Authorizer, recorder: Arc<SessionRecorder>) -> Self {
        let decide: Decide = Arc::new(move |login, deadline| {
            let authorizer = authorizer.clone();
            Box::pin(async move { authorizer.decide(&login, deadline).await })
        });
        Self::new(decide, recorder)
    }

    /// Decides `login` by `deadline`; without a decision by then it is denied. Pass the result to
    /// [`Self::answered`] once the answer was written or could not be.
    pub(crate) async fn authorize(
        &self,
        login: Arc<Login>,
        arrived: Instant,
        deadline: Instant,
    ) -> DecidedLogin {
        let handle = self.recorder.login_started(&login);
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let _in_progress = InProgress(&self.waiting);
        let deciding = (self.decide)(Arc::clone(&login), deadline);
        let decision = timeout_at(deadline, deciding).await.unwrap_or_else(|_| late());
        DecidedLogin {
            login,
            decision,
            handle,
            took: clock::now() - arrived,
            waiting,
        }
    }

    /// Audits and records a decided login. Returns the session that an allow whose answer was
    /// `written` becomes, for the caller to register once the helper has read it.
    pub(crate) fn answered(&self, decided: DecidedLogin, written: bool) -> Option<PendingSession> {
        // After the answer: no client waits for a log line.
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

fn late() -> Decision {
    Decision {
        verdict: Verdict::deny(DenyCode::Outage, "there was no decision in time"),
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

    /// Writes the one audit line of a decision.
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
            // A text, which is quoted: a name may hold spaces and look like further fields.
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
            duration_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            waiting = self.waiting,
            "login decided"
        );
    }
}
