//! What the pipeline tells about itself.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    Decision, DenyCode, GroupName, Login, OcservId, Source, Username, Verdict, VhostName,
};
use resilience::Transition;

/// How many decisions are remembered for the operator.
const REMEMBERED: usize = 1_000;

/// One decision, for the log line and for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    /// When it was made.
    pub at: SystemTime,
    /// About whom.
    pub username: Username,
    /// In which group.
    pub group: Option<GroupName>,
    /// From which address.
    pub client_ip: IpAddr,
    /// To which virtual host.
    pub vhost: Option<VhostName>,
    /// ocserv's number of the session.
    pub id: OcservId,
    /// Who decided.
    pub source: Source,
    /// How old the answer was.
    pub age: Duration,
    /// `None` when the client was let in.
    pub deny_code: Option<DenyCode>,
    /// What the client was refused for; empty when it was let in or nobody said.
    pub reason: String,
    /// Why the source did not decide, when it was to be asked and did not.
    pub outage: Option<String>,
    /// How long the decision took.
    pub took: Duration,
}

impl DecisionRecord {
    pub(crate) fn new(login: &Login, decision: &Decision, at: SystemTime, took: Duration) -> Self {
        let (deny_code, reason) = match &decision.verdict {
            Verdict::Allow(_) => (None, String::new()),
            Verdict::Deny(refusal) => (Some(refusal.code), refusal.reason.clone()),
        };
        let Login {
            username,
            group,
            client_ip,
            vhost,
            id,
            ..
        } = login.clone();
        let Decision {
            source,
            age,
            ref outage,
            ..
        } = *decision;
        Self {
            at,
            username,
            group,
            client_ip,
            vhost,
            id,
            source,
            age,
            deny_code,
            reason,
            outage: outage.clone(),
            took,
        }
    }

    /// Whether the client was let in.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.deny_code.is_none()
    }
}

/// How a question to a remote source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallEnd {
    /// With a verdict.
    Answered,
    /// With a verdict that an invalidation had overtaken.
    Overtaken,
    /// Without an answer.
    Outage,
    /// The agent stopped first.
    Cancelled,
}

/// Something worth counting or logging.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Observation {
    /// A login was decided.
    Decided(Arc<DecisionRecord>),
    /// The breaker changed its state.
    Breaker(Transition),
    /// A question to a remote source ended.
    Asked {
        /// How.
        end: CallEnd,
        /// How long it took.
        took: Duration,
    },
}

/// Takes what the pipeline tells. Called on the login's path and never under a lock; it must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Observation) + Send + Sync>);

impl Observer {
    /// An observer that calls `take`.
    #[must_use]
    pub fn new(take: impl Fn(Observation) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn tell(&self, observation: Observation) {
        (self.0)(observation);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The last decisions.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Arc<DecisionRecord>>);

impl Recent {
    pub(crate) fn note(&mut self, record: Arc<DecisionRecord>) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// Those that let `user` in.
    pub(crate) fn let_in(&self, user: &Username) -> Vec<Arc<DecisionRecord>> {
        let hers = |record: &&Arc<DecisionRecord>| record.allowed() && record.username == *user;
        self.0.iter().filter(hers).cloned().collect()
    }

    /// The last one first.
    pub(crate) fn list(&self) -> Vec<Arc<DecisionRecord>> {
        self.0.iter().rev().cloned().collect()
    }
}
