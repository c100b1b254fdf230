//! One question to the source, from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::Login;
use resilience::{CallOutcome, Now, Query, SharedPermit, StoreResult, Ttl};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use crate::flight::Landing;
use crate::observe::{CallEnd, Observation};
use crate::source::SourceError;

/// A question under way. However its task ends, the question is taken off the list of those under way.
pub(super) struct Ask {
    pub(super) inner: Arc<Inner>,
    pub(super) login: Login,
    pub(super) number: u64,
    pub(super) begin: Now,
    pub(super) until: Instant,
    pub(super) timeout: Duration,
    /// Gone once the question has landed.
    pub(super) question: Option<Query>,
}

impl Ask {
    /// Asks, bounded by the timeout and by the stop of the agent alone: nobody who waits can cancel it for the others.
    pub(super) async fn run(mut self, pass: SharedPermit, landing: watch::Sender<Option<Landing>>) {
        let parts = &self.inner.parts;
        let result = tokio::select! {
            biased;
            () = parts.stop.cancelled() => None,
            result = timeout_at(self.until, parts.source.check(&self.login, self.until)) => {
                let timeout = self.timeout;
                Some(result.unwrap_or_else(|_| Err(SourceError::Outage(format!("no answer within {timeout:?}")))))
            }
        };
        let now = parts.clock.now();
        let (outcome, end, landed) = match result {
            None => {
                self.land(|_, _| ());
                (
                    CallOutcome::Cancelled,
                    CallEnd::Cancelled,
                    Landing::Outage("the agent is stopping".to_owned()),
                )
            }
            Some(Ok(answer)) => {
                let verdict = answer.verdict.clone();
                let stored =
                    self.land(|cache, question| cache.store(question, answer.verdict, Ttl::from(answer.ttl)));
                match stored {
                    Some(StoreResult::Stored | StoreResult::NotStored) => (
                        CallOutcome::Success,
                        CallEnd::Answered,
                        Landing::Answered(verdict),
                    ),
                    Some(StoreResult::Invalidated) | None => (
                        CallOutcome::Success,
                        CallEnd::Overtaken,
                        Landing::Overtaken(verdict),
                    ),
                }
            }
            Some(Err(SourceError::Outage(why))) => {
                self.land(|_, _| ());
                (CallOutcome::Failure, CallEnd::Outage, Landing::Outage(why))
            }
        };
        let transition = pass.settle(outcome, now.mono);
        // Nobody waits any more: then nobody needs to know.
        landing.send_replace(Some(landed));
        let inner = Arc::clone(&self.inner);
        inner.changed.notify_one();
        inner.tell(transition);
        let took = now.mono.saturating_duration_since(self.begin.mono);
        inner.parts.observer.tell(Observation::Asked { end, took });
    }

    /// Takes the question off the list and does `then` in the same moment, so that no login finds neither the question
    /// nor its answer.
    fn land<T>(&mut self, then: impl FnOnce(&mut resilience::Cache, Query) -> T) -> Option<T> {
        let question = self.question.take()?;
        let mut state = self.inner.lock();
        state.flights.land(question.key(), self.number);
        Some(then(&mut state.cache, question))
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.land(|_, _| ());
    }
}
