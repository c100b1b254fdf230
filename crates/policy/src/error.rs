//! What can be wrong with a policy file, and where.

use std::fmt;

use ocserv_agent_model::NameError;

/// Why a policy file was refused, and the place: prints as `policy.toml:12: rules[2].networks[0]: …`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    pub(crate) origin: String,
    pub(crate) line: Option<usize>,
    pub(crate) key: String,
    pub(crate) problem: Problem,
}

impl PolicyError {
    /// The line of the file, from 1; `None` when the file as a whole is at fault.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The key at fault, such as `rules[2].networks[0]` (rules count from 0); empty where the text is no TOML.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong there.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// What is wrong with one key of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is no TOML, or a key is unknown, missing, twice there or of another type.
    #[error("{0}")]
    Syntax(String),
    /// There is no `version`.
    #[error("is missing: this program reads version {known}, write `version = {known}`")]
    NoVersion {
        /// What this program reads.
        known: i64,
    },
    /// The file is of a version that this program does not read.
    #[error("is {found}, this program reads version {known}")]
    OtherVersion {
        /// What the file says.
        found: i64,
        /// What this program reads.
        known: i64,
    },
    /// No user or group can have this name.
    #[error("{text:?} {why}")]
    Name {
        /// What the file says.
        text: String,
        /// Why it is no name.
        why: NameError,
    },
    /// A list without entries, which might be meant to match everyone or no one.
    #[error("is an empty list: leave the key out to match everyone")]
    EmptyMatch,
    /// Not an address and not a network.
    #[error("{0:?} is neither an IP address nor a network such as 192.0.2.0/24")]
    NotANetwork(String),
    /// A network with bits set behind its mask.
    #[error("{text:?} has bits set behind its mask: write {network:?}")]
    HostBits {
        /// What the file says.
        text: String,
        /// The network that it lies in.
        network: String,
    },
    /// An IPv4 network in IPv6 clothes: clients that come this way are matched by their IPv4 address.
    #[error("{0:?} is an IPv4 network written as IPv6: write it as IPv4")]
    Mapped(String),
    /// Not `default` and not a network.
    #[error("{0:?} is neither \"default\" nor a network such as 10.0.0.0/8")]
    NotARoute(String),
    /// A route without a mask, for which ocserv denies the whole session.
    #[error("{text:?} has no mask, ocserv would deny the session: write {network:?}")]
    RouteWithoutMask {
        /// What the file says.
        text: String,
        /// The same as a network.
        network: String,
    },
    /// A route of all addresses in CIDR notation, for which ocserv denies the whole session.
    #[error("{0:?} makes ocserv deny the session: write \"default\" to route everything")]
    RouteOfAll(String),
    /// `default` next to other routes, which ocserv would drop.
    #[error("\"default\" stands alone: ocserv drops the other routes")]
    DefaultAmongRoutes,
    /// Not an IP address.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// Not a duration of whole seconds up to a day.
    #[error("{0:?} is not a time of whole seconds up to 24h, such as \"5m\" or \"0s\"")]
    Ttl(String),
    /// A reason that is empty, too long or not one line.
    #[error("must be one line of 1 to 200 characters")]
    Reason,
    /// A key that means something for the other verdict only.
    #[error("means nothing in a rule that {0}")]
    OtherVerdict(&'static str),
    /// An earlier rule matches every login.
    #[error("is never reached: rules[{0}] matches every login")]
    Unreachable(usize),
}
