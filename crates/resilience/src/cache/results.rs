//! Results of the cache's methods.

use std::time::Duration;

use ocserv_agent_model::Verdict;

/// The result of a lookup for a fresh answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A fresh answer.
    Fresh(Hit<'a>),
    /// An answer that is no longer fresh: query the source.
    Stale {
        /// Time since the source was asked.
        age: Duration,
    },
    /// No answer.
    Missing,
}

/// A fresh answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The source's verdict.
    pub verdict: &'a Verdict,
    /// Time since the source was asked.
    pub age: Duration,
    /// Whether to query the source in the background: the answer is in the last fifth of its TTL.
    /// True once per answer, so a failed refresh is not repeated; the answer then expires.
    pub refresh: bool,
}

/// An answer for use in an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleAnswer {
    /// The source's verdict.
    pub verdict: Verdict,
    /// Time since the source was asked, or since it revoked the user.
    pub age: Duration,
}

/// The result of storing an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreResult {
    /// The answer is in the cache.
    Stored,
    /// The source or the settings forbid storing it, or the cache has the answer to a later query.
    NotStored,
    /// An invalidation came after the query's start: the answer must not be used.
    Invalidated,
}
