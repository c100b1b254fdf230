//! `[portal]`: the policy source.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::checker::Checker;
use super::grpc::Role;
use super::period::Period;
use super::tls_files::TlsFiles;

/// Most of what `portal.limits` may allow. ocserv passes the routes to its script in one variable
/// of the environment, which cannot hold 5,100.
const MAX_ROUTES: usize = 5_000;
const MAX_DNS: usize = 256;
const MAX_TEXT: usize = 64 << 10;

/// The policy source: the portal, or a policy file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// Which policy source decides.
    #[serde(default)]
    pub mode: Mode,
    /// The policy file, with `mode = "embedded"`.
    pub policy_file: Option<PathBuf>,
    /// The portal's URL; required unless the mode is embedded.
    pub address: Option<Address>,
    /// Whether the agent opens a control stream to the portal.
    #[serde(default = "yes")]
    pub control_stream: bool,
    /// What the portal may do over the control stream.
    #[serde(default)]
    pub role: Role,
    /// Longest time of one call.
    #[serde(default = "two_seconds")]
    pub timeout: Period,
    /// Longest time of a connection attempt; `timeout` when absent.
    pub connect_timeout: Option<Period>,
    /// Time after which an idle connection is probed.
    #[serde(default = "ten_seconds")]
    pub keepalive_interval: Period,
    /// Longest time in which the portal's host may acknowledge nothing before the connection is
    /// closed.
    #[serde(default = "five_seconds")]
    pub keepalive_timeout: Period,
    /// Delays before a reconnect, and before an event is sent again.
    #[serde(default)]
    pub reconnect: Reconnect,
    /// Bounds of an answer about a login.
    #[serde(default)]
    pub limits: Limits,
    /// The identity towards the portal; required unless the mode is embedded.
    pub tls: Option<PortalTls>,
}

/// A policy source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The company's portal.
    #[default]
    Portal,
    /// A policy file on this server.
    Embedded,
}

fn yes() -> bool {
    true
}

fn two_seconds() -> Period {
    Period::seconds(2)
}

fn five_seconds() -> Period {
    Period::seconds(5)
}

fn ten_seconds() -> Period {
    Period::seconds(10)
}

/// The portal's URL: `https`, a host, a port if it is not 443, and nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(http::Uri);

impl Address {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: http::Uri = text.parse().map_err(|_| "is not a URL")?;
        if uri.scheme_str() != Some("https") {
            return Err("does not begin with https://");
        }
        let Some(authority) = uri.authority() else {
            return Err("names no host");
        };
        if authority.host().is_empty() {
            return Err("names no host");
        }
        if authority.as_str().contains('@') {
            return Err("carries a user name");
        }
        // `http` reads a bad port as none, which would mean 443.
        let after_host = authority
            .as_str()
            .strip_prefix(authority.host())
            .unwrap_or_default();
        if !after_host.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("has no port from 1 to 65535");
        }
        if text.contains('#') {
            return Err("has a fragment");
        }
        if !matches!(
            uri.path_and_query().map(http::uri::PathAndQuery::as_str),
            None | Some("" | "/")
        ) {
            return Err("has a path");
        }
        Ok(Self(uri))
    }

    /// Whether the host is a DNS name or an IP address, as certificates have them.
    fn host_can_be_certified(&self) -> bool {
        // In a URL, and only there, an IPv6 address is written in brackets.
        let host = self.0.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        rustls::pki_types::ServerName::try_from(bare.unwrap_or(host)).is_ok()
    }

    /// The URL.
    #[must_use]
    pub fn uri(&self) -> &http::Uri {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|why| {
            // What stands before an `@` may be a password, and this goes into the log.
            let text = text
                .rsplit_once('@')
                .map_or(text.clone(), |(_, host)| format!("…@{host}"));
            de::Error::custom(format!(
                "\"{text}\" {why}, expected a URL such as \"https://portal.example.com:8443\""
            ))
        })
    }
}

/// Our identity towards the portal and the name that we expect of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalTls {
    /// The certificates of those who may sign the portal's certificate.
    pub ca: PathBuf,
    /// The agent's certificate, with its intermediates after it.
    pub cert: PathBuf,
    /// The agent's private key.
    pub key: PathBuf,
    /// The name expected in the portal's certificate; the host of `portal.address` when absent.
    pub server_name: Option<String>,
}

impl PortalTls {
    /// The three files.
    #[must_use]
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}

/// Delays between attempts: random, from 0 to a bound that grows from `initial_delay` to
/// `max_delay`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconnect {
    /// The first bound.
    pub initial_delay: Period,
    /// The last bound.
    pub max_delay: Period,
    /// The factor from one bound to the next; 1 to 10.
    pub multiplier: f64,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            initial_delay: Period::seconds(1),
            max_delay: Period::seconds(60),
            multiplier: 2.0,
        }
    }
}

/// Bounds of an answer about a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most routes.
    pub max_routes: usize,
    /// Most name servers.
    pub max_dns: usize,
    /// Longest text, in bytes.
    pub max_text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_routes: 2_000,
            max_dns: 16,
            max_text: 4_096,
        }
    }
}

impl Limits {
    fn check(self, checker: &mut Checker) {
        checker.count("portal.limits.max_routes", self.max_routes, 1..=MAX_ROUTES);
        checker.count("portal.limits.max_dns", self.max_dns, 1..=MAX_DNS);
        checker.count("portal.limits.max_text", self.max_text, 1..=MAX_TEXT);
    }
}

impl Portal {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.period("portal.timeout", self.timeout, Duration::from_mins(1));
        if let Some(connect_timeout) = self.connect_timeout {
            checker.period("portal.connect_timeout", connect_timeout, Duration::from_mins(1));
        }
        checker.period_from(
            "portal.keepalive_interval",
            self.keepalive_interval,
            Duration::from_millis(100),
            Duration::from_hours(1),
        );
        checker.period(
            "portal.keepalive_timeout",
            self.keepalive_timeout,
            Duration::from_mins(5),
        );
        checker.period(
            "portal.reconnect.initial_delay",
            self.reconnect.initial_delay,
            Duration::from_hours(1),
        );
        checker.period(
            "portal.reconnect.max_delay",
            self.reconnect.max_delay,
            Duration::from_hours(1),
        );
        if self.reconnect.initial_delay > self.reconnect.max_delay {
            checker.problem(
                "portal.reconnect.initial_delay",
                format!(
                    "{} is longer than portal.reconnect.max_delay ({})",
                    self.reconnect.initial_delay, self.reconnect.max_delay
                ),
            );
        }
        if !(1.0..=10.0).contains(&self.reconnect.multiplier) {
            checker.problem(
                "portal.reconnect.multiplier",
                format!("{} is not between 1.0 and 10.0", self.reconnect.multiplier),
            );
        }
        self.limits.check(checker);
        match self.mode {
            Mode::Portal => self.check_remote(checker),
            Mode::Embedded => self.check_embedded(checker),
        }
    }

    fn check_remote(&self, checker: &mut Checker) {
        if self.address.is_none() {
            checker.problem("portal.address", "is missing".to_owned());
        }
        if self.policy_file.is_some() {
            let what = "is read with portal.mode = \"embedded\" only".to_owned();
            checker.problem("portal.policy_file", what);
        }
        let Some(tls) = &self.tls else {
            checker.problem("portal.tls", "is missing: ca, cert and key".to_owned());
            return;
        };
        if let Some(address) = &self.address
            && tls.server_name.is_none()
            && !address.host_can_be_certified()
        {
            let what = format!("\"{address}\" names a host that cannot be in a certificate");
            checker.problem("portal.address", what);
        }
        if let Some(name) = &tls.server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            let what = format!("\"{name}\" is neither a DNS name nor an IP address");
            checker.problem("portal.tls.server_name", what);
        }
        tls.files().check("portal.tls", checker);
    }

    fn check_embedded(&self, checker: &mut Checker) {
        for (key, given) in [
            ("portal.address", self.address.is_some()),
            ("portal.tls", self.tls.is_some()),
        ] {
            if given {
                let what = "is not used with portal.mode = \"embedded\": there is no portal then".to_owned();
                checker.problem(key, what);
            }
        }
        match &self.policy_file {
            Some(path) => checker.absolute("portal.policy_file", path),
            None => checker.problem("portal.policy_file", "is missing".to_owned()),
        }
    }

    /// Whether the policy file decides.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.mode == Mode::Embedded
    }

    /// The portal's address and the identity towards it; `None` when the policy file decides.
    #[must_use]
    pub fn remote(&self) -> Option<(&Address, &PortalTls)> {
        self.address.as_ref().zip(self.tls.as_ref())
    }

    /// Longest time of a connection attempt.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(self.timeout).0
    }
}
