//! Observations of the pipeline, and the last decisions.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    Decision, DenyCode, GroupName, Login, OcservId, Source, Username, Verdict, VhostName,
};
use resilience::{CacheKey, Transition};

/// Most decisions that are kept.
const MAX_RECENT: usize = 1_000;

/// The record of one decision, for metrics and the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    /// When it was made.
    pub at: SystemTime,
    /// The user.
    pub username: Username,
    /// The user's group.
    pub group: Option<GroupName>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The virtual host.
    pub vhost: Option<VhostName>,
    /// ocserv's ID of the session.
    pub id: OcservId,
    /// Where the decision came from.
    pub source: Source,
    /// Age of the source's answer.
    pub age: Duration,
    /// Why the login was denied; `None` when it was allowed.
    pub deny_code: Option<DenyCode>,
    /// The reason of a deny; empty for an allow, or when none was given.
    pub reason: String,
    /// Why the source gave no answer; `None` when it answered or was not queried.
    pub outage: Option<String>,
    /// How long the decision took.
    pub duration: Duration,
}

impl DecisionRecord {
    pub(crate) fn new(login: &Login, decision: &Decision, at: SystemTime, duration: Duration) -> Self {
        let (deny_code, reason) = match &decision.verdict {
            Verdict::Allow(_) => (None, String::new()),
            Verdict::Deny(denial) => (Some(denial.code), denial.reason.clone()),
        };
        Self {
            at,
            username: login.username.clone(),
            group: login.group.clone(),
            client_ip: login.client_ip,
            vhost: login.vhost.clone(),
            id: login.id,
            source: decision.source,
            age: decision.age,
            deny_code,
            reason,
            outage: decision.outage.clone(),
            duration,
        }
    }

    /// Whether the login was allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.deny_code.is_none()
    }
}

/// How a query to a remote source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryEnd {
    /// With a verdict.
    Answered,
    /// With a verdict from before an invalidation.
    Invalidated,
    /// Without an answer.
    Outage,
    /// With an answer that cannot be used.
    InvalidAnswer,
    /// With an error that denies the login.
    Rejected,
    /// The agent stopped before an answer.
    Cancelled,
}

/// An event of the pipeline, to be counted or logged.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Observation {
    /// A login was decided.
    Decided(Arc<DecisionRecord>),
    /// The breaker changed its state.
    Breaker(Transition),
    /// The source denied a user whose connected sessions must end, too. The deny is stored.
    DisconnectRequested {
        /// The denied login.
        key: CacheKey,
        /// The reason of the deny.
        reason: String,
    },
    /// A query to a remote source ended.
    QueryEnded {
        /// How it ended.
        end: QueryEnd,
        /// How long it took.
        duration: Duration,
    },
}

/// Receives observations. Called on the login's path, never under a lock; must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Observation) + Send + Sync>);

impl Observer {
    /// Creates an observer that calls `receive`.
    #[must_use]
    pub fn new(receive: impl Fn(Observation) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn report(&self, observation: Observation) {
        (self.0)(observation);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// The latest decisions.
#[derive(Debug, Default)]
pub(crate) struct RecentDecisions(VecDeque<Arc<DecisionRecord>>);

impl RecentDecisions {
    pub(crate) fn push(&mut self, record: Arc<DecisionRecord>) {
        if self.0.len() == MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// Returns the allows for `user`, oldest first.
    pub(crate) fn allowed(&self, user: &Username) -> Vec<Arc<DecisionRecord>> {
        let allows_user = |record: &&Arc<DecisionRecord>| record.allowed() && record.username == *user;
        self.0.iter().filter(allows_user).cloned().collect()
    }

    /// Returns all decisions, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<DecisionRecord>> {
        self.0.iter().rev().cloned().collect()
    }
}
