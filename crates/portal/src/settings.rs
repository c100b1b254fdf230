//! Settings of the client, and the dial target derived from them.

use std::time::Duration;

use http::Uri;
use resilience::Backoff;
use rustls::pki_types::ServerName;

/// Delays between connection attempts: exponential, with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReconnectSettings {
    /// Longest delay after the first failure, and the shortest time between two attempts that
    /// waiting logins request.
    pub initial_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Factor by which the longest delay grows with every failure.
    pub multiplier: f64,
}

impl ReconnectSettings {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff {
            initial: self.initial_delay,
            max: self.max_delay,
            multiplier: self.multiplier,
        }
    }
}

/// Bounds of one answer about a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most routes.
    pub max_routes: usize,
    /// Most name servers.
    pub max_dns: usize,
    /// Longest text, in bytes.
    pub max_text: usize,
}

impl Limits {
    /// Longest route or address, in bytes, with its tag and length on the wire: an IPv6 network, or
    /// IPv4 with a netmask, and some white space.
    const MAX_ENTRY: usize = 64;
    /// Metadata that the agent ignores, and everything else.
    const REST: usize = 64 << 10;

    /// Most bytes of an answer that keeps the bounds.
    pub(crate) fn message_size(&self) -> usize {
        let entries = self.max_routes.saturating_add(self.max_dns);
        let texts = self.max_text.saturating_mul(4);
        (entries.saturating_mul(Self::MAX_ENTRY))
            .saturating_add(texts)
            .saturating_add(Self::REST)
    }
}

/// Settings of the client.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The portal's address: `https://host[:port]`, port 443 by default.
    pub address: Uri,
    /// Expected certificate name, where it is not the host of `address`.
    pub server_name: Option<String>,
    /// Longest time of one call, including the wait for a connection.
    pub timeout: Duration,
    /// Longest time from name resolution to the portal's first HTTP/2 data.
    pub connect_timeout: Duration,
    /// Time after which the kernel probes an idle connection, in whole seconds, rounded up.
    pub keepalive_interval: Duration,
    /// Longest time in which the portal's host may acknowledge nothing.
    pub keepalive_timeout: Duration,
    /// Delays between connection attempts.
    pub reconnect: ReconnectSettings,
    /// This agent's name, sent with every event.
    pub agent_id: String,
    /// Bounds of an answer.
    pub limits: Limits,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The scheme is not `https`.
    #[error("portal address {0} does not begin with https://")]
    NotHttps(String),
    /// The address has no host.
    #[error("portal address {0} has no host")]
    NoHost(String),
    /// The address has a path or a query, which gRPC does not use.
    #[error("portal address {0} has a path; expected https://host:port")]
    HasPath(String),
    /// The expected certificate name is neither a DNS name nor an IP address.
    #[error("{0:?} cannot be the name in a certificate")]
    ServerName(String),
}

/// Host, port and certificate name to dial.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) name: ServerName<'static>,
}

impl Target {
    pub(crate) fn of(settings: &Settings) -> Result<Self, SettingsError> {
        let address = &settings.address;
        if address.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return Err(SettingsError::NotHttps(address.to_string()));
        }
        if address.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(SettingsError::HasPath(address.to_string()));
        }
        // An IPv6 address has brackets in a URI only.
        let host = address
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(SettingsError::NoHost(address.to_string()));
        }
        let expected = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(expected.to_owned())
            .map_err(|_| SettingsError::ServerName(expected.to_owned()))?;
        Ok(Self {
            host: host.to_owned(),
            port: address.port_u16().unwrap_or(443),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str, server_name: Option<&str>) -> Result<Target, SettingsError> {
        Target::of(&Settings {
            address: address.parse().unwrap(),
            server_name: server_name.map(str::to_owned),
            timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            reconnect: ReconnectSettings {
                initial_delay: Duration::from_secs(1),
                max_delay: Duration::from_secs(60),
                multiplier: 2.0,
            },
            agent_id: "a1".to_owned(),
            limits: Limits {
                max_routes: 2000,
                max_dns: 16,
                max_text: 4096,
            },
        })
    }

    #[test]
    fn address_gives_host_port_and_certificate_name() {
        for (address, server_name, host, port, name) in [
            ("https://portal.test", None, "portal.test", 443, "portal.test"),
            (
                "https://portal.test:8443/",
                None,
                "portal.test",
                8443,
                "portal.test",
            ),
            (
                "https://10.0.0.1:8443",
                Some("portal.test"),
                "10.0.0.1",
                8443,
                "portal.test",
            ),
            (
                "https://[2001:db8::1]:8443",
                None,
                "2001:db8::1",
                8443,
                "2001:db8::1",
            ),
        ] {
            let target = target(address, server_name).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port));
            assert_eq!(target.name.to_str(), name);
        }
    }

    #[test]
    fn unusable_address_is_rejected() {
        for (address, server_name, why) in [
            (
                "http://portal.test",
                None,
                SettingsError::NotHttps("http://portal.test/".into()),
            ),
            (
                "portal.test:443",
                None,
                SettingsError::NotHttps("portal.test:443".into()),
            ),
            (
                "https://portal.test/api",
                None,
                SettingsError::HasPath("https://portal.test/api".into()),
            ),
            (
                "https://portal.test",
                Some("no name"),
                SettingsError::ServerName("no name".into()),
            ),
        ] {
            assert_eq!(target(address, server_name).unwrap_err(), why);
        }
    }
}
