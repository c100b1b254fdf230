//! One cached answer of the policy source.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Grant, Verdict};

use super::key::CacheKey;
use super::records::Record;
use crate::time::Now;

/// An answer up to this size counts as one, a larger one as several.
const BYTES_PER_UNIT: usize = 4_096;

#[derive(Debug)]
pub(super) struct CachedAnswer {
    pub(super) verdict: Verdict,
    pub(super) asked: Now,
    /// Time to live; `None` for an answer that is not fresh any more, such as a restored one.
    pub(super) ttl: Option<Duration>,
    pub(super) refreshed: Cell<bool>,
    /// Its part of `max_size`.
    pub(super) weight: u64,
}

impl CachedAnswer {
    pub(super) fn new(key: &CacheKey, verdict: Verdict, asked: Now, ttl: Option<Duration>) -> Self {
        let units = (size(key) + size_of_verdict(&verdict)).div_ceil(BYTES_PER_UNIT);
        Self {
            verdict,
            asked,
            ttl,
            refreshed: Cell::new(false),
            weight: u64::try_from(units).unwrap_or(u64::MAX),
        }
    }

    /// Creates an answer from the records of an earlier process.
    pub(super) fn restored(key: &CacheKey, verdict: Verdict, asked: SystemTime, now: Now) -> Self {
        Self::new(key, verdict, now.at_wall(asked), None)
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        now.age_of(&self.asked)
    }

    /// Whether it decides a login in an outage.
    pub(super) fn serves_in_outage(&self, now: Now, stale_ttl: Duration) -> bool {
        !self.verdict.is_allow() || self.age(now) < stale_ttl
    }

    /// Whether it decides no login any more, fresh or in an outage. A deny always does.
    pub(super) fn is_past_use(&self, now: Now, stale_ttl: Duration) -> bool {
        let fresh = self.ttl.is_some_and(|ttl| self.age(now) < ttl);
        !fresh && !self.serves_in_outage(now, stale_ttl)
    }

    pub(super) fn record(&self, key: &CacheKey) -> Record {
        Record {
            key: key.clone(),
            verdict: self.verdict.clone(),
            asked: self.asked.wall,
        }
    }
}

/// Returns about how much memory a key takes, in bytes.
fn size(key: &CacheKey) -> usize {
    let group = key.group.as_ref().map_or(0, |name| name.as_str().len());
    let vhost = key.vhost.as_ref().map_or(0, |name| name.as_str().len());
    size_of::<CacheKey>() + size_of::<CachedAnswer>() + key.username.as_str().len() + group + vhost
}

fn size_of_verdict(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Allow(Grant { routes, dns_servers }) => {
            let routes: usize = routes.iter().map(|route| size_of_val(route) + route.len()).sum();
            routes + size_of_val(&**dns_servers)
        }
        Verdict::Deny(denial) => denial.reason.len(),
    }
}
