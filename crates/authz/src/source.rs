//! Who knows the policy.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ocserv_agent_model::{Login, Source, Verdict};
use tokio::time::Instant;

/// What a policy source says about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub verdict: Verdict,
    /// How long the answer may be kept: `None` leaves it to the settings, zero means not at all.
    pub ttl: Option<Duration>,
}

/// Why a policy source gave no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source is gone, late, or answers nonsense: counts against the breaker, and the fail mode decides.
    #[error("{0}")]
    Outage(String),
}

/// A question under way.
pub type Check<'a> = Pin<Box<dyn Future<Output = Result<Answer, SourceError>> + Send + 'a>>;

/// Who knows the policy: the portal, or a policy file on this server.
pub trait PolicySource: Send + Sync + 'static {
    /// What the source is called in a decision. [`Source::Embedded`] answers from memory: its decisions pass by cache
    /// and breaker. Any other source is remote.
    fn source(&self) -> Source;

    /// Asks about one login. The pipeline stops waiting at `deadline`.
    fn check<'a>(&'a self, login: &'a Login, deadline: Instant) -> Check<'a>;
}
