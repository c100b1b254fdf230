//! The configuration: schema, loading, checks.
//!
//! The schema lives here and nowhere else: only `app` reads it, and every other part takes a small
//! `Settings` of its own. [`Document::parse`] checks values without I/O; [`preflight`] checks what
//! needs the disk; [`load`] does both.

mod check;
mod error;
mod events;
mod grpc;
mod http;
mod ipc;
mod ipc_socket;
mod load;
mod locate;
mod log;
mod ocserv;
mod period;
mod portal;
mod preflight;
mod reload;
mod resilience;
mod sessions;
mod summary;
mod tls_files;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Location, Problem};
pub use events::Events;
pub use grpc::{Grpc, Role};
pub use http::Http;
pub(crate) use ipc::RESPONSE_MARGIN;
pub use ipc::{Ipc, SocketMode};
pub use ipc_socket::ipc_socket;
pub use load::{Document, load};
pub use log::{Log, LogFormat};
pub use ocserv::Ocserv;
pub use period::Period;
pub use portal::{Address, Mode as PortalMode, Portal, PortalTls, Reconnect};
pub use preflight::{Preflight, preflight};
pub use reload::{RELOADABLE, needing_restart};
pub use resilience::{Cache, CircuitBreaker, Keyword, Rate, RateLimit, Resilience};
pub use sessions::Sessions;
pub use tls_files::TlsFiles;

/// The default path of the configuration file.
pub const DEFAULT_PATH: &str = "/etc/ocserv-agent/config.toml";

/// The prefix of environment variables that set keys: `OCSERV_AGENT__SECTION__KEY`.
pub const ENV_PREFIX: &str = "OCSERV_AGENT__";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Identifies this agent to the portal; 1 to 64 letters, digits, dots, underscores, dashes.
    pub agent_id: String,
    /// The name of this server; the system's when absent.
    pub hostname: Option<String>,
    /// What this server is used for; `production` by default.
    #[serde(default = "production")]
    pub environment: String,
    /// The directory of the state that outlives a restart.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// The policy source.
    pub portal: Portal,
    /// What happens to logins while the portal is slow, wrong or gone.
    #[serde(default)]
    pub resilience: Resilience,
    /// The socket on which `vpn-auth` sends its requests.
    #[serde(default)]
    pub ipc: Ipc,
    /// The gRPC server that the portal calls; `None` without the section.
    pub grpc: Option<Grpc>,
    /// The ocserv on this server.
    #[serde(default)]
    pub ocserv: Ocserv,
    /// The validation of connected sessions.
    #[serde(default)]
    pub sessions: Sessions,
    /// The queue of events for the portal.
    #[serde(default)]
    pub events: Events,
    /// Metrics and probes.
    #[serde(default)]
    pub http: Http,
    /// The log.
    #[serde(default)]
    pub log: Log,
}

fn production() -> String {
    "production".to_owned()
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/ocserv-agent")
}

impl Config {
    /// The name of this server: the configured one, else the system's.
    #[must_use]
    pub fn hostname(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| {
            std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
