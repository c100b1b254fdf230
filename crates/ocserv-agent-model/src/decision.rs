//! What was decided about a login, and how.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What an allowed client gets. Empty lists mean that the source said nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Routes in CIDR notation, as the source wrote them.
    pub routes: Vec<String>,
    /// Name servers.
    pub dns_servers: Vec<IpAddr>,
}

/// Why a client is kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The reason in a closed set, for programs.
    pub code: DenyCode,
    /// The reason for a person; one line, it may be empty.
    pub reason: String,
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The client may come in.
    Allow(Grant),
    /// The client is kept out.
    Deny(Denial),
}

impl Verdict {
    /// Whether the client may come in.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// A refusal with a code and a reason.
    #[must_use]
    pub fn deny(code: DenyCode, reason: impl Into<String>) -> Self {
        Self::Deny(Denial {
            code,
            reason: reason.into(),
        })
    }
}

/// A verdict and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// Who said so.
    pub source: Source,
    /// How old the answer is; zero unless it came from the cache.
    pub age: Duration,
    /// Why the source gave no answer, when it was to be asked and gave none; for the log.
    pub outage: Option<String>,
}

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The portal answered this very question.
    Portal,
    /// A fresh cached answer.
    Cache,
    /// An expired cached answer, used because the portal gave none.
    Stale,
    /// No answer; fail mode `open` let the client in.
    FailOpen,
    /// No answer; the client is kept out.
    FailClose,
    /// The policy file on this server.
    Embedded,
    /// The agent itself, before any source was asked: the request was bad, too much, or too late.
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

    /// The name on the wire, in logs and in metrics.
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

/// Why a login was refused, in a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyCode {
    /// The policy says no.
    Policy,
    /// The policy source gave no usable answer and the fail mode does not let anyone in.
    Outage,
    /// The request does not make sense: a name or an address that cannot be.
    BadRequest,
    /// Too many logins of one user or from one address.
    RateLimited,
    /// The agent has more logins under way than it takes.
    Overloaded,
    /// The caller of the socket is not one that may ask.
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

    /// The name on the wire, in logs and in metrics.
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
