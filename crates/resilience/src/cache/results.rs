//! What the cache returns.

use std::time::Duration;

use ocserv_agent_model::Verdict;

/// What the fresh path may use.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A fresh answer.
    Fresh(Hit<'a>),
    /// An answer that is no longer fresh: ask the source.
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
    /// The answer is in the last fifth of its TTL: ask the source in the background. True once per
    /// answer, so a refresh that fails or is lost is not repeated; the answer then expires.
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

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreResult {
    /// It is in the cache.
    Stored,
    /// The source or the settings want it not stored, or a later query was answered before.
    NotStored,
    /// It was asked for before an invalidation: it must not decide anything.
    Invalidated,
}
