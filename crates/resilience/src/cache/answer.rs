//! One cached answer of the policy source.

use std::time::{Duration, SystemTime};

use ocserv_agent_model::Verdict;

use super::key::CacheKey;
use super::records::Record;
use crate::time::Now;

#[derive(Debug)]
pub(super) struct CachedAnswer {
    pub(super) verdict: Verdict,
    pub(super) asked: Now,
    /// Time to live; `None` for an answer that was restored, which is never fresh.
    pub(super) ttl: Option<Duration>,
    pub(super) refreshed: bool,
}

impl CachedAnswer {
    /// Creates an answer from the records of an earlier process.
    pub(super) fn restored(verdict: Verdict, asked: SystemTime, now: Now) -> Self {
        Self {
            verdict,
            asked: now.at_wall(asked),
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
