//! Decisions about logins.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What an allowed client gets. An empty list means that the source sets none. Clones share the
/// lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Routes in CIDR notation, as the source wrote them.
    pub routes: Arc<[String]>,
    /// DNS servers.
    pub dns_servers: Arc<[IpAddr]>,
}

/// Why a login is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The reason for programs.
    pub code: DenyCode,
    /// The reason for people: one line, possibly empty.
    pub reason: String,
}

/// Allow or deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The login is allowed.
    Allow(Grant),
    /// The login is denied.
    Deny(Denial),
}

impl Verdict {
    /// Whether the login is allowed.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// Creates a deny.
    #[must_use]
    pub fn deny(code: DenyCode, reason: impl Into<String>) -> Self {
        Self::Deny(Denial {
            code,
            reason: reason.into(),
        })
    }
}

/// A verdict and its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Where the verdict came from.
    pub source: Source,
    /// Age of the source's answer; zero unless it came from the cache.
    pub age: Duration,
    /// Why the source gave no answer; `None` when it answered or was not queried.
    pub outage: Option<String>,
}

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The portal's answer to this login.
    Portal,
    /// A fresh cached answer.
    Cache,
    /// An expired cached answer, used because the portal gave none.
    Stale,
    /// Fail mode `open`, without any answer.
    FailOpen,
    /// A fail mode's deny, without any answer.
    FailClose,
    /// The policy file on this server.
    Embedded,
    /// The agent itself, before the source was asked: the request was invalid, over a limit, or out
    /// of time.
    Agent,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 7] = [
        Self::Portal,
        Self::Cache,
        Self::Stale,
        Self::FailOpen,
        Self::FailClose,
        Self::Embedded,
        Self::Agent,
    ];

    /// Returns the name on the wire, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::FailOpen => "fail_open",
            Self::FailClose => "fail_close",
            Self::Embedded => "embedded",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a login was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyCode {
    /// The policy denies it.
    Policy,
    /// The policy source gave no usable answer and the fail mode denies.
    Outage,
    /// The request is invalid: an impossible name or address.
    BadRequest,
    /// Too many logins of one user or from one address.
    RateLimited,
    /// The agent has too many logins in progress.
    Overloaded,
    /// The peer on the IPC socket is not in `ipc.allowed_uids`.
    PeerRefused,
}

impl DenyCode {
    /// Every code.
    pub const ALL: [Self; 6] = [
        Self::Policy,
        Self::Outage,
        Self::BadRequest,
        Self::RateLimited,
        Self::Overloaded,
        Self::PeerRefused,
    ];

    /// Returns the name on the wire, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Outage => "outage",
            Self::BadRequest => "bad_request",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::PeerRefused => "peer_refused",
        }
    }
}

impl fmt::Display for DenyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
