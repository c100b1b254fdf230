//! `[http]`: the endpoints for metrics and probes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The server of `/metrics`, `/livez` and `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// The address to listen on: plain HTTP, without authentication.
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
        }
    }
}
