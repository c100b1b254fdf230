//! `[grpc]`: the server that the portal calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tls::SubjectName;

use super::checker::Checker;
use super::period::Period;
use super::tls_files::TlsFiles;

/// The gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// The address to listen on.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// Connections that may be open at once.
    #[serde(default = "connections")]
    pub max_connections: usize,
    /// Longest time of a TLS handshake.
    #[serde(default = "handshake")]
    pub handshake_timeout: Period,
    /// The identity towards callers.
    pub tls: TlsFiles,
    /// The roles of callers, by a name (SAN) in their certificate, as [`SubjectName`] parses it.
    /// Callers without a role may call health alone.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9443))
}

fn connections() -> usize {
    64
}

fn handshake() -> Period {
    Period::seconds(5)
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads: lists the sessions.
    Viewer,
    /// Acts on users, sessions and cached decisions.
    #[default]
    Operator,
    /// Also lets logins be decided more leniently than configured.
    Admin,
}

impl Grpc {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.count("grpc.max_connections", self.max_connections, 1..=65_536);
        checker.period(
            "grpc.handshake_timeout",
            self.handshake_timeout,
            Duration::from_mins(1),
        );
        self.check_roles(checker);
        self.tls.check("grpc.tls", checker);
    }

    /// The roles by the names that they are given to.
    pub fn roles_by_name(&self) -> impl Iterator<Item = (SubjectName, Role)> {
        // The check of values refuses other keys.
        let parse = |(text, role): (&String, &Role)| Some((text.parse().ok()?, *role));
        self.roles.iter().filter_map(parse)
    }

    fn check_roles(&self, checker: &mut Checker) {
        let mut seen = BTreeMap::new();
        for text in self.roles.keys() {
            match text.parse::<SubjectName>() {
                Err(error) => checker.problem("grpc.roles", format!("{text:?} {error}")),
                Ok(name) => {
                    if let Some(other) = seen.insert(name, text) {
                        checker.problem("grpc.roles", format!("{other:?} and {text:?} are one name"));
                    }
                }
            }
        }
    }
}
