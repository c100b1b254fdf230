//! One answer of the source.

use std::time::{Duration, SystemTime};

use ocserv_agent_model::Verdict;

use super::{CacheKey, Record};
use crate::time::Now;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) asked: Now,
    /// How long it is fresh; `None` for one that was restored.
    pub(super) ttl: Option<Duration>,
    pub(super) refreshed: bool,
}

impl Answer {
    /// One that an earlier process was given.
    pub(super) fn restored(verdict: Verdict, asked: SystemTime, now: Now) -> Self {
        Self {
            verdict,
            asked: now.earlier(asked),
            ttl: None,
            refreshed: false,
        }
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        now.age_of(&self.asked)
    }

    pub(super) fn record(&self, key: &CacheKey) -> Record {
        Record {
            key: key.clone(),
            verdict: self.verdict.clone(),
            asked: self.asked.wall,
        }
    }
}
