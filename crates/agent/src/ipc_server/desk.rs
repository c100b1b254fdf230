//! What is done about a request once it is understood.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authz::DecisionRecord;
use ocserv::Ocserv;
use ocserv_agent_model::{Decision, DenyCode, Login, Source, Username, Verdict, one_line};
use sessions::{DisconnectReport, LoginHandle};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::beginnings::{Beginning, Registrar};
use super::line::Line;
use super::respond;
use crate::clock;
use crate::decisions;
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;

/// A decision under way.
pub type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;

/// Who decides a login. The decision must be there by the given time; a later one is not waited for.
pub type Decide = Arc<dyn Fn(Arc<Login>, Instant) -> Deciding + Send + Sync>;

/// The last decisions, the last one first.
pub type Recall = Arc<dyn Fn() -> Vec<Arc<DecisionRecord>> + Send + Sync>;

/// Takes requests to those whom they concern.
pub(super) struct Desk {
    decide: Decide,
    recall: Option<Recall>,
    recorder: Arc<SessionRecorder>,
    beginnings: mpsc::Sender<Beginning>,
    /// What is counted.
    pub(super) metrics: Metrics,
    under_way: AtomicUsize,
}

/// What a desk works with.
pub struct Parts {
    /// Who decides.
    pub decide: Decide,
    /// Records logins and sessions.
    pub recorder: Arc<SessionRecorder>,
    /// Where ocserv says when a session began.
    pub ocserv: Ocserv,
    /// What is counted.
    pub metrics: Metrics,
    /// Who shows the last decisions to whoever may ask, if anybody does.
    pub recall: Option<Recall>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

/// A login that was decided; its answer is on the way to the helper.
#[derive(Debug)]
pub(super) struct Decided {
    login: Arc<Login>,
    decision: Decision,
    handle: LoginHandle,
    /// From the helper's connect to the decision.
    took: Duration,
    /// Logins under way at that moment, this one included.
    waiting: usize,
}

impl Desk {
    /// A desk with nothing under way, and who makes sessions of the logins that it lets in; `room` of them may wait.
    pub(super) fn new(parts: Parts, room: usize) -> (Self, Registrar) {
        let Parts {
            decide,
            recorder,
            ocserv,
            metrics,
            recall,
        } = parts;
        let (registrar, beginnings) = Registrar::new(Arc::clone(&recorder), ocserv, room);
        let desk = Self {
            decide,
            recall,
            recorder,
            beginnings,
            metrics,
            under_way: AtomicUsize::new(0),
        };
        (desk, registrar)
    }

    /// The last decisions as a table, about `user` or all of them. It says nothing about a login, so it allows nothing.
    pub(super) fn decisions(&self, user: Option<&Username>) -> ipc::Response {
        let records = self.recall.as_ref().map(|recall| recall()).unwrap_or_default();
        let message = Some(decisions::table(&records, user));
        ipc::Response {
            message,
            ..ipc::Response::new(false)
        }
    }

    /// Decides `login` by `deadline`. The session is noted as being answered; give the result
    /// to [`Self::answered`] when the answer has been written or could not be.
    pub(super) async fn connect(
        &self,
        login: Arc<Login>,
        arrived: Instant,
        deadline: Instant,
    ) -> (ipc::Response, Decided) {
        let handle = self.recorder.login_started(&login);
        let waiting = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let _counted = Counted(&self.under_way);
        let deciding = (self.decide)(Arc::clone(&login), deadline);
        let decision = timeout_at(deadline, deciding).await.unwrap_or_else(|_| late());
        let took = clock::now() - arrived;
        (
            respond::decision(&decision),
            Decided {
                login,
                decision,
                handle,
                took,
                waiting,
            },
        )
    }

    /// Writes the audit line of a login whose answer was written to `line`, or could not be, and has the consequences drawn.
    pub(super) fn answered(&self, decided: Decided, line: Option<Line>) {
        // After the answer: a line in the log is no reason for a client to wait.
        audit(&decided);
        let Decided {
            login,
            decision,
            handle,
            ..
        } = decided;
        let line = match line {
            _ if !decision.verdict.is_allow() => return self.recorder.login_denied(handle),
            None => return self.recorder.answer_undelivered(handle, &login),
            Some(line) => line,
        };
        let beginning = Beginning {
            handle,
            login,
            source: decision.source,
            line,
            written: clock::now(),
        };
        if let Err(TrySendError::Full(left) | TrySendError::Closed(left)) =
            self.beginnings.try_send(beginning)
        {
            // Where too many wait for ocserv, it is noted without ocserv's second.
            self.recorder.session_started(left.handle, left.source, None);
        }
    }

    /// Takes the report that a session is over.
    pub(super) fn disconnect(&self, report: DisconnectReport) -> ipc::Response {
        self.recorder.session_ended(report);
        respond::noted()
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
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

/// The one line that every decision leaves.
fn audit(decided: &Decided) {
    let Decided {
        login,
        decision,
        took,
        waiting,
        ..
    } = decided;
    let (outcome, deny_code, reason) = match &decision.verdict {
        Verdict::Allow(_) => ("allow", None, None),
        Verdict::Deny(refusal) => (
            "deny",
            Some(refusal.code.as_str()),
            Some(one_line(&refusal.reason, respond::MAX_REASON)),
        ),
    };
    tracing::info!(
        target: "audit",
        // As a text, which is quoted: a name may hold spaces and look like further fields.
        user = login.username.as_str(),
        group = login.group.as_ref().map(ocserv_agent_model::GroupName::as_str),
        client_ip = %login.client_ip,
        id = %login.id,
        vhost = login.vhost.as_ref().map(ocserv_agent_model::VhostName::as_str),
        outcome,
        source = %decision.source,
        deny_code,
        reason,
        outage = decision.outage,
        age_ms = u64::try_from(decision.age.as_millis()).unwrap_or(u64::MAX),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        waiting,
        "login decided"
    );
}

/// The line of a login that the agent itself refused before anybody was asked. What the request says is unchecked: it is
/// cut, and logged as texts, which both formats quote, so that it cannot break the line.
pub(super) fn audit_refusal(request: &ipc::Request, response: &ipc::Response, arrived: Instant) {
    if request.reason != "connect" {
        return;
    }
    let cut = |text: &str| text.chars().take(64).collect::<String>();
    tracing::info!(
        target: "audit",
        user = cut(&request.username),
        client_ip = cut(&request.ip_real),
        id = cut(&request.session_id),
        outcome = "deny",
        source = response.source,
        deny_code = response.deny_code,
        reason = response.error,
        duration_ms = u64::try_from((clock::now() - arrived).as_millis()).unwrap_or(u64::MAX),
        "login decided"
    );
}
