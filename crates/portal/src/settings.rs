//! What the client must be told, and where exactly it dials.

use std::time::Duration;

use http::Uri;
use resilience::Backoff;
use rustls::pki_types::ServerName;

/// The waits between attempts to connect: exponential, with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReconnectSettings {
    /// The longest wait after the first failure, and the shortest time between two attempts that a waiting login may
    /// bring about.
    pub initial_delay: Duration,
    /// The longest wait ever.
    pub max_delay: Duration,
    /// How much the longest wait grows with every failure.
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

/// What the client must be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the portal is: `https://host[:port]`; the port is 443 where none is given.
    pub address: Uri,
    /// The name that the portal's certificate must bear, where it is not the host of `address`.
    pub server_name: Option<String>,
    /// The longest time of one call, the wait for a connection included.
    pub timeout: Duration,
    /// The longest time from the first packet to the portal's first words over TLS.
    pub connect_timeout: Duration,
    /// How often the portal is asked for a sign of life, also while nothing else is said.
    pub keepalive_interval: Duration,
    /// How long it may take to give one.
    pub keepalive_timeout: Duration,
    /// The waits between attempts to connect.
    pub reconnect: ReconnectSettings,
    /// This agent's name, for the metadata of events.
    pub agent_id: String,
}

/// Why an address cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Nothing but TLS is spoken.
    #[error("portal address {0} does not begin with https://")]
    NotHttps(String),
    /// No host.
    #[error("portal address {0} names no host")]
    NoHost(String),
    /// A path or a query, which gRPC has no use for.
    #[error("portal address {0} has a path; only https://host:port is meant")]
    HasPath(String),
    /// The name to expect in the certificate is no DNS name and no IP address.
    #[error("{0:?} cannot be the name in a certificate")]
    ServerName(String),
}

/// Where to dial, taken apart.
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
        // An IPv6 address stands in brackets in a URI, and without them everywhere else.
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
        })
    }

    #[test]
    fn an_address_says_where_to_dial_and_whom_to_expect() {
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
    fn an_address_that_cannot_be_meant_is_refused() {
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
