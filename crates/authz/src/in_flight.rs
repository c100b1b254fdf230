//! Queries in flight: at most one per key, shared by every login that waits for its answer.

use std::collections::HashMap;

use ocserv_agent_model::{Username, Verdict};
use resilience::CacheKey;
use tokio::sync::watch;

/// How a query ended, for every login that waits for it.
#[derive(Debug, Clone)]
pub(crate) enum QueryResult {
    /// The source gave a verdict.
    Answered(Verdict),
    /// The source gave this verdict, but an invalidation came after the query's start.
    Invalidated(Verdict),
    /// The source gave no answer.
    Outage(String),
}

/// Receives the result of a query. Closed without a result when the query's task ended early.
pub(crate) type ResultReceiver = watch::Receiver<Option<QueryResult>>;

#[derive(Debug)]
struct InFlight {
    number: u64,
    result: ResultReceiver,
}

/// The queries in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlightQueries {
    /// Those that a login can join.
    joinable: HashMap<CacheKey, InFlight>,
    next: u64,
    /// How many are in flight, joinable or not.
    count: usize,
}

impl InFlightQueries {
    /// Joins the query about `key`.
    pub(crate) fn join(&self, key: &CacheKey) -> Option<ResultReceiver> {
        self.joinable.get(key).map(|query| query.result.clone())
    }

    /// Registers a query about `key` and returns its number.
    pub(crate) fn start(&mut self, key: CacheKey, result: ResultReceiver) -> u64 {
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.joinable.insert(key, InFlight { number, result });
        number
    }

    /// Removes query `number`.
    pub(crate) fn finish(&mut self, key: &CacheKey, number: u64) {
        self.count -= 1;
        if self.joinable.get(key).is_some_and(|query| query.number == number) {
            self.joinable.remove(key);
        }
    }

    /// Stops further logins from joining the queries about `user`.
    pub(crate) fn close(&mut self, user: &Username) {
        self.joinable.retain(|key, _| key.username != *user);
    }

    /// Stops further logins from joining any of the queries.
    pub(crate) fn close_all(&mut self) {
        self.joinable.clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
