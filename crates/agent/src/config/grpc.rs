//! `[grpc]`: the server that the portal calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// The roles of callers, by a name (SAN) in their certificate. Callers without a role may call
    /// health alone.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads: lists the sessions.
    Viewer,
    /// Everything.
    Operator,
}

impl Grpc {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.count("grpc.max_connections", self.max_connections, 1..=65_536);
        checker.period(
            "grpc.handshake_timeout",
            self.handshake_timeout,
            Duration::from_mins(1),
        );
        for name in self.roles.keys() {
            // `tls::Peer` has no other names: such a role would never match.
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                let what = format!("{name:?} cannot be a name (SAN) in a certificate");
                checker.problem("grpc.roles", what);
            }
        }
        self.tls.check("grpc.tls", checker);
    }
}
