//! Questions under way: at most one per key, shared by every login that wants the answer.

use std::collections::HashMap;

use ocserv_agent_model::{Username, Verdict};
use resilience::CacheKey;
use tokio::sync::watch;

/// How a question ended, for everyone who waits for it.
#[derive(Debug, Clone)]
pub(crate) enum Landing {
    /// The source gave a verdict.
    Answered(Verdict),
    /// The source gave this verdict, but an invalidation came after the question: ask again.
    Overtaken(Verdict),
    /// The source gave no answer.
    Outage(String),
}

/// Where a question's end appears. Closed without an end: the question was lost.
pub(crate) type Arrival = watch::Receiver<Option<Landing>>;

#[derive(Debug)]
struct Flight {
    number: u64,
    arrival: Arrival,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// Those that a login can still join.
    open: HashMap<CacheKey, Flight>,
    next: u64,
    /// How many are under way, those that nobody can join any more included.
    under_way: usize,
}

impl Flights {
    /// The question about `key` that is under way.
    pub(crate) fn join(&self, key: &CacheKey) -> Option<Arrival> {
        self.open.get(key).map(|flight| flight.arrival.clone())
    }

    /// Notes that a question about `key` begins; gives its number.
    pub(crate) fn depart(&mut self, key: CacheKey, arrival: Arrival) -> u64 {
        let number = self.next;
        self.next += 1;
        self.under_way += 1;
        self.open.insert(key, Flight { number, arrival });
        number
    }

    /// Notes that question `number` ended.
    pub(crate) fn land(&mut self, key: &CacheKey, number: u64) {
        self.under_way -= 1;
        if self.open.get(key).is_some_and(|flight| flight.number == number) {
            self.open.remove(key);
        }
    }

    /// Nobody joins the questions about `user` any more; without a user, none at all.
    pub(crate) fn close(&mut self, user: Option<&Username>) {
        self.open
            .retain(|key, _| user.is_some_and(|user| key.username != *user));
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }
}
