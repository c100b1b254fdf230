//! Errors of the text of a policy file.

use std::fmt;

use ocserv_agent_model::{NameError, escaped_line};

/// Why and where a policy file is invalid, in one line: `policy.toml:12: rules[2].networks[0]: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    pub(crate) origin: String,
    pub(crate) line: Option<usize>,
    pub(crate) key: String,
    pub(crate) problem: Problem,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", escaped_line(&self.key))?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for PolicyError {}

/// What is wrong with one key of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The text is not TOML, or a key is unknown, missing, given twice or of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// There is no `version`.
    #[error("is missing: this program reads version {supported}, write `version = {supported}`")]
    NoVersion {
        /// The supported version.
        supported: i64,
    },
    /// The version is not supported.
    #[error("is {found}, this program reads version {supported}")]
    OtherVersion {
        /// The version in the file.
        found: i64,
        /// The supported version.
        supported: i64,
    },
    /// Not a name of a user, a group or a virtual host.
    #[error("{text:?} {error}")]
    Name {
        /// The text in the file.
        text: String,
        /// Why it is not a name.
        error: NameError,
    },
    /// An empty list, which could mean everyone as well as no one.
    #[error("is an empty list: leave the key out to match everyone")]
    EmptyMatch,
    /// Not an address and not a network.
    #[error("{0:?} is neither an IP address nor a network such as 192.0.2.0/24")]
    NotANetwork(String),
    /// A network with bits set behind its mask.
    #[error("{text:?} has bits set behind its mask: write {network:?}")]
    HostBits {
        /// The text in the file.
        text: String,
        /// The network that contains it.
        network: String,
    },
    /// An IPv4-mapped IPv6 network: such clients are matched by their IPv4 address.
    #[error("{0:?} is an IPv4 network written as IPv6: write it as IPv4")]
    Mapped(String),
    /// Not `default` and not a network.
    #[error("{0:?} is neither \"default\" nor a network such as 10.0.0.0/8")]
    NotARoute(String),
    /// A route without a prefix length, for which ocserv denies the session.
    #[error("{text:?} has no mask, ocserv would deny the session: write {network:?}")]
    RouteWithoutMask {
        /// The text in the file.
        text: String,
        /// The same as a network.
        network: String,
    },
    /// A route to all addresses in CIDR notation, for which ocserv denies the session.
    #[error("{0:?} makes ocserv deny the session: write \"default\" to route everything")]
    RouteOfAll(String),
    /// `default` with other routes, which ocserv would drop.
    #[error("\"default\" must be the only route: ocserv drops the others")]
    DefaultAmongRoutes,
    /// Not an IP address.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// Not a duration of whole seconds up to a day.
    #[error("{0:?} is not a time of whole seconds up to 24h, such as \"5m\" or \"0s\"")]
    Ttl(String),
    /// A reason that is not one line of 1 to 200 characters.
    #[error("must be one line of 1 to 200 characters")]
    Reason,
    /// A key of the other verdict.
    #[error("means nothing in a rule that {0}")]
    OtherVerdict(&'static str),
    /// An earlier rule matches every login.
    #[error("is never reached: rules[{0}] matches every login")]
    Unreachable(usize),
}
