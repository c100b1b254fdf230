//! The policy source.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ocserv_agent_model::{Denial, Login, Source, Verdict};
use tokio::time::Instant;

/// A policy source's answer about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAnswer {
    /// Allow or deny.
    pub verdict: Verdict,
    /// How long the answer is fresh: `None` leaves it to the settings. With zero it decides no
    /// later login while the source answers: an allow is not cached, a deny is kept for outages.
    pub ttl: Option<Duration>,
    /// Whether the connected sessions of the user must end, too; only with a deny.
    pub disconnect: bool,
}

/// Why a policy source gave no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source is unreachable, late or fails: counts against the breaker, and the fail mode
    /// decides.
    #[error("{0}")]
    Outage(String),
    /// The source itself says that it failed on this login: the fail mode decides. It counts
    /// against the breaker once the source fails for a second user without an answer between.
    #[error("{0}")]
    Failed(String),
    /// The source answered, and its answer about this login cannot be used: the fail mode decides,
    /// and the breaker counts a success.
    #[error("{0}")]
    InvalidAnswer(String),
    /// The source works and rejects this login without a verdict: the login is denied, nothing is
    /// kept, and the breaker counts a success.
    #[error("{}", .0.reason)]
    Rejected(Denial),
}

/// The future of [`PolicySource::check`].
pub type CheckFuture<'a> = Pin<Box<dyn Future<Output = Result<PolicyAnswer, SourceError>> + Send + 'a>>;

/// Decides logins by a policy: the portal, or a policy file on this server.
pub trait PolicySource: Send + Sync + 'static {
    /// Returns the name of the source in a decision. [`Source::Embedded`] answers from memory: its
    /// decisions bypass cache and breaker. Any other source is remote.
    fn source(&self) -> Source;

    /// Checks one login. The pipeline stops waiting at `deadline`.
    fn check<'a>(&'a self, login: &'a Login, deadline: Instant) -> CheckFuture<'a>;
}
