//! The schema of the whole configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::grpc::Grpc;
use super::health::Health;
use super::http::Http;
use super::ipc::Ipc;
use super::log::Log;
use super::ocserv::Ocserv;
use super::outbox::Outbox;
use super::portal::Portal;
use super::resilience::Resilience;
use super::server_environment::Environment;
use super::sessions::Sessions;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Identifies this agent to the portal; 1 to 64 letters, digits, dots, underscores, dashes.
    pub agent_id: String,
    /// The name of this server; the system's when absent.
    pub hostname: Option<String>,
    /// What this server is used for; `production` by default.
    #[serde(default)]
    pub environment: Environment,
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
    /// The events that wait for the portal.
    #[serde(default)]
    pub outbox: Outbox,
    /// What the agent reports of itself to the portal.
    #[serde(default)]
    pub health: Health,
    /// Metrics and probes.
    #[serde(default)]
    pub http: Http,
    /// The log.
    #[serde(default)]
    pub log: Log,
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
