//! One query to the source, from start to finish.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Login, Verdict};
use resilience::{CacheKey, CallOutcome, Now, Query, SharedPermit, StoreResult, Ttl};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use crate::in_flight::QueryResult;
use crate::observer::{Observation, QueryEnd};
use crate::source::SourceError;

/// A query in flight; dropping it removes it from the queries in flight.
pub(super) struct SourceQuery {
    pub(super) inner: Arc<Inner>,
    pub(super) login: Login,
    pub(super) number: u64,
    pub(super) started: Now,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    /// `None` once the query is finished.
    pub(super) query: Option<Query>,
}

impl SourceQuery {
    /// Queries the source. Only the timeout and the agent's stop end it, so that no login cancels
    /// it for the others.
    pub(super) async fn run(mut self, permit: SharedPermit, result: watch::Sender<Option<QueryResult>>) {
        let dependencies = &self.inner.dependencies;
        let check = dependencies.source.check(&self.login, self.deadline);
        let answer = tokio::select! {
            biased;
            () = dependencies.stop.cancelled() => None,
            answer = timeout_at(self.deadline, check) => {
                let timeout = self.timeout;
                Some(answer.unwrap_or_else(|_| Err(SourceError::Outage(format!("no answer within {timeout:?}")))))
            }
        };
        let now = dependencies.clock.now();
        let mut wants_disconnect = false;
        let fails_for_many = answer.as_ref().is_some_and(|answer| {
            let mut state = self.inner.lock();
            state.failures.record(&self.login.username, answer);
            state.failures.are_of_many_users()
        });
        let (outcome, end, ended) = match answer {
            None => {
                self.finish(|_, _| ());
                (
                    CallOutcome::Cancelled,
                    QueryEnd::Cancelled,
                    QueryResult::Outage("the agent is stopping".to_owned()),
                )
            }
            Some(Ok(answer)) => {
                let verdict = answer.verdict.clone();
                wants_disconnect = answer.disconnect;
                let stored =
                    self.finish(|cache, query| cache.store(query, answer.verdict, Ttl::from(answer.ttl)));
                match stored {
                    Some(StoreResult::Stored | StoreResult::NotStored) => (
                        CallOutcome::Success,
                        QueryEnd::Answered,
                        QueryResult::Answered(verdict),
                    ),
                    Some(StoreResult::Invalidated) | None => (
                        CallOutcome::Success,
                        QueryEnd::Invalidated,
                        QueryResult::Invalidated(verdict),
                    ),
                }
            }
            Some(Err(error)) => {
                self.finish(|_, _| ());
                without_verdict(error, fails_for_many)
            }
        };
        let transition = permit.settle(outcome, now.mono);
        // An invalidated answer is replaced by that to a later query.
        let disconnect = match &ended {
            QueryResult::Answered(Verdict::Deny(denial)) if wants_disconnect => Some(denial.reason.clone()),
            _ => None,
        };
        result.send_replace(Some(ended));
        let inner = Arc::clone(&self.inner);
        inner.changed.notify_one();
        inner.report_transition(transition);
        let duration = now.mono.saturating_duration_since(self.started.mono);
        inner
            .dependencies
            .observer
            .report(Observation::QueryEnded { end, duration });
        if let Some(reason) = disconnect {
            let key = CacheKey::from(&self.login);
            inner
                .dependencies
                .observer
                .report(Observation::DisconnectRequested { key, reason });
        }
    }

    /// Removes the query from those in flight and runs `then` under the same lock, so that every
    /// login finds either the query or its answer.
    fn finish<T>(&mut self, then: impl FnOnce(&mut resilience::Cache, Query) -> T) -> Option<T> {
        let query = self.query.take()?;
        let mut state = self.inner.lock();
        state.queries.finish(query.key(), self.number);
        Some(then(&mut state.cache, query))
    }
}

/// What a query without a verdict means for the breaker, the metrics and the logins that wait.
fn without_verdict(error: SourceError, fails_for_many: bool) -> (CallOutcome, QueryEnd, QueryResult) {
    match error {
        SourceError::Outage(cause) => (CallOutcome::Failure, QueryEnd::Outage, QueryResult::Outage(cause)),
        // About one user it may be wrong with the user: that says nothing about the source.
        SourceError::Failed(cause) => (
            if fails_for_many {
                CallOutcome::Failure
            } else {
                CallOutcome::Cancelled
            },
            QueryEnd::Outage,
            QueryResult::Outage(cause),
        ),
        SourceError::InvalidAnswer(cause) => (
            CallOutcome::Success,
            QueryEnd::InvalidAnswer,
            QueryResult::Outage(cause),
        ),
        SourceError::Rejected(denial) => (
            CallOutcome::Success,
            QueryEnd::Rejected,
            QueryResult::Answered(Verdict::Deny(denial)),
        ),
    }
}

impl Drop for SourceQuery {
    fn drop(&mut self) {
        self.finish(|_, _| ());
    }
}
