//! What is done about a request once it is understood.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use authz::DecisionRecord;
use model::{Decision, DenyCode, Login, Source, Username, Verdict};
use occtl::ControlSocket;
use tokio::time::{Instant, timeout_at};

use super::respond;
use crate::clock;
use crate::config::chain;
use crate::decisions;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::sessions::{Ended, Sessions, Ticket};

/// A decision under way.
pub type Deciding = Pin<Box<dyn Future<Output = Decision> + Send>>;

/// Who decides a login. The decision must be there by the given time; a later one is not waited for.
pub type Decide = Arc<dyn Fn(Login, Instant) -> Deciding + Send + Sync>;

/// The last decisions, the last one first.
pub type Recall = Arc<dyn Fn() -> Vec<Arc<DecisionRecord>> + Send + Sync>;

/// Takes requests to those whom they concern.
pub struct Desk {
    /// Who decides.
    pub decide: Decide,
    /// Who is noted.
    pub sessions: Arc<Sessions>,
    /// What the portal is told; `None` where there is no portal.
    pub events: Option<Events>,
    /// Where ocserv says when a session began.
    pub control: ControlSocket,
    /// What is counted.
    pub metrics: Metrics,
    recall: Option<Recall>,
    under_way: AtomicUsize,
    /// Held while something happens to a session and the portal's queue takes the events of it.
    turn: Mutex<()>,
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
    login: Login,
    decision: Decision,
    ticket: Ticket,
    /// `Some` once ocserv has answered, with the second at which it accepted the connection if it said so.
    connected_at: Option<Option<u64>>,
    /// From the helper's connect to the decision.
    took: std::time::Duration,
    /// Logins under way at that moment, this one included.
    waiting: usize,
}

impl Desk {
    /// A desk with nothing under way.
    #[must_use]
    pub fn new(
        decide: Decide,
        sessions: Arc<Sessions>,
        events: Option<Events>,
        control: ControlSocket,
        metrics: Metrics,
    ) -> Self {
        Self {
            decide,
            sessions,
            events,
            control,
            metrics,
            recall: None,
            under_way: AtomicUsize::new(0),
            turn: Mutex::default(),
        }
    }

    /// The same desk that also shows the last decisions to whoever may ask.
    #[must_use]
    pub fn showing(self, recall: Recall) -> Self {
        Self {
            recall: Some(recall),
            ..self
        }
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
    /// to [`Self::settle`] when the answer has been written or could not be.
    pub(super) async fn connect(
        &self,
        login: Login,
        arrived: Instant,
        deadline: Instant,
    ) -> (ipc::Response, Decided) {
        let ticket = self.in_turn(|| {
            let (ticket, superseded) = self.sessions.begin(&login, clock::wall());
            if let Some(event) = superseded {
                let (user, uid) = (event.username.as_str(), &event.uid);
                tracing::info!(target: "session", user, %uid, "session ended unseen");
                self.report(event);
            }
            ticket
        });
        let waiting = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let _counted = Counted(&self.under_way);

        // ocserv is asked meanwhile when the session began: that never delays the answer.
        let mut connected_at = None;
        let decision = {
            let mut deciding = pin!(timeout_at(deadline, (self.decide)(login.clone(), deadline)));
            let mut asking = pin!(self.connected_at(&login));
            loop {
                tokio::select! {
                    biased;
                    decision = &mut deciding => break decision.unwrap_or_else(|_| late()),
                    answer = &mut asking, if connected_at.is_none() => connected_at = Some(answer),
                }
            }
        };
        let took = clock::now() - arrived;
        (
            respond::decision(&decision),
            Decided {
                login,
                decision,
                ticket,
                connected_at,
                took,
                waiting,
            },
        )
    }

    /// Writes the audit line of an answered login and draws the consequences. `heard` says whether the answer reached the helper.
    pub(super) async fn settle(&self, decided: Decided, heard: bool) {
        // After the answer: a line in the log is no reason for a client to wait.
        audit(&decided);
        let Decided {
            login,
            decision,
            ticket,
            connected_at,
            ..
        } = decided;
        if !decision.verdict.is_allow() {
            self.sessions.denied(&ticket);
            return;
        }
        if !heard {
            let (user, id) = (login.username.as_str(), login.id);
            tracing::warn!(target: "session", user, %id, "nobody heard the answer");
            self.sessions.undelivered(&ticket);
            return;
        }
        let connected_at = match connected_at {
            Some(answer) => answer,
            None => self.connected_at(&login).await,
        };
        self.in_turn(|| {
            for event in self.sessions.delivered(&ticket, decision.source, connected_at) {
                self.tell(event);
            }
        });
    }

    /// Takes the report that a session is over.
    pub(super) fn disconnect(&self, ended: Ended) -> ipc::Response {
        self.in_turn(|| {
            for event in self.sessions.ended(ended, clock::wall()) {
                self.tell(event);
            }
        });
        respond::noted()
    }

    /// One happening at a time: else the end of a session could get into the queue before its beginning.
    fn in_turn<T>(&self, happens: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        happens()
    }

    fn tell(&self, event: model::Event) {
        let (user, id, uid) = (event.username.as_str(), event.id, &event.uid);
        match &event.happening {
            model::Happening::Connected(_) => {
                tracing::info!(target: "session", user, %id, %uid, "session began");
            }
            model::Happening::Disconnected(end) => {
                let duration_s = end.duration.map(|duration| duration.as_secs());
                let (bytes_in, bytes_out) = (end.usage.map(|u| u.received), end.usage.map(|u| u.sent));
                let reason = end.reason;
                tracing::info!(
                    target: "session", user, %id, %uid, %reason, duration_s, bytes_in, bytes_out, "session ended"
                );
            }
        }
        self.report(event);
    }

    fn report(&self, event: model::Event) {
        self.metrics.happened(&event.happening);
        if let Some(events) = &self.events {
            events.push(event);
        }
    }

    /// The second at which ocserv accepted the connection of `login`, if it lists a connection with this number and
    /// user now.
    async fn connected_at(&self, login: &Login) -> Option<u64> {
        match self.control.id(login.id.get()).await {
            Ok(Some(row)) if row.username.as_deref() == Some(login.username.as_str()) => row.connected_at,
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(id = %login.id, error = chain(&error), "ocserv does not say when a session began");
                None
            }
        }
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
        age: std::time::Duration::ZERO,
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
            Some(respond::one_line(&refusal.reason)),
        ),
    };
    tracing::info!(
        target: "audit",
        // As a text, which is quoted: a name may hold spaces and look like further fields.
        user = login.username.as_str(),
        group = login.group.as_ref().map(model::GroupName::as_str),
        client_ip = %login.client_ip,
        id = %login.id,
        vhost = login.vhost.as_ref().map(model::VhostName::as_str),
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

#[cfg(test)]
mod tests;
