//! The configuration: what may be written, where it comes from, and whether it makes sense.
//!
//! The schema lives here and nowhere else; every other crate takes a small `Settings` of its own. A config that was
//! loaded has been checked: its files were there, its budgets nest, its names are names.

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
mod reload;
mod resilience;
mod sessions;
mod tls_files;

use std::path::{Path, PathBuf};

use ocserv_agent_model::error_chain;
use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Place, Problem};
pub use events::Events;
pub use grpc::{Grpc, Role};
pub use http::Http;
pub use ipc::{Ipc, Mode};
pub use ipc_socket::ipc_socket;
pub use load::load;
pub use log::{Log, LogFormat};
pub use ocserv::Ocserv;
pub use period::Period;
pub use portal::{Address, Mode as PortalMode, Portal, PortalTls, Reconnect};
pub use reload::{RELOADABLE, needing_restart};
pub use resilience::{Cache, CircuitBreaker, Rate, RateLimit, Resilience, Word};
pub use sessions::Sessions;
pub use tls_files::TlsFiles;

/// Where the configuration is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/ocserv-agent/config.toml";

/// What the variables that set keys begin with: `OCSERV_AGENT__SECTION__KEY`.
pub const ENV_PREFIX: &str = "OCSERV_AGENT__";

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of this agent among all agents of the portal.
    pub agent_id: String,
    /// The name of this server; the system's when it is not given.
    pub hostname: Option<String>,
    /// What this server is used for; `production` unless somebody says otherwise.
    #[serde(default = "production")]
    pub environment: String,
    /// Where the agent keeps what outlives a restart.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Who decides.
    pub portal: Portal,
    /// What happens to logins while the portal is slow, wrong or gone.
    #[serde(default)]
    pub resilience: Resilience,
    /// The socket on which the connect-script asks.
    #[serde(default)]
    pub ipc: Ipc,
    /// The server that the portal calls; absent when the section is.
    pub grpc: Option<Grpc>,
    /// The ocserv that this agent stands next to.
    #[serde(default)]
    pub ocserv: Ocserv,
    /// The sessions that are up.
    #[serde(default)]
    pub sessions: Sessions,
    /// What waits for the portal.
    #[serde(default)]
    pub events: Events,
    /// Metrics and probes.
    #[serde(default)]
    pub http: Http,
    /// What the agent writes about itself.
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
    /// The name of this server: the one that was given, else the system's.
    #[must_use]
    pub fn hostname(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| {
            std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
        })
    }

    /// What `--check-config` shows of a good config: every key with its effective value, one a line, what is off, and
    /// what an operator should look at. Blocks on the disk.
    #[must_use]
    pub fn summary(&self, path: &Path) -> String {
        let mut text = format!("{}: config is good\n", path.display());
        let mut effective = self.clone();
        effective.hostname = Some(self.hostname());
        effective.portal.connect_timeout = Some(Period(self.portal.connect_timeout()));
        for (key, value) in reload::flat(&effective) {
            text.push_str(&format!("  {key} = {value}\n"));
        }
        if self.grpc.is_none() {
            text.push_str("  off: the gRPC server, there is no [grpc] section\n");
        }
        for warning in self.warnings() {
            text.push_str(&format!("  warning: {warning}\n"));
        }
        text
    }

    /// What works and is not meant: an identity that peers will refuse, a server that serves nobody, a directory that is
    /// none. Reads the identities again.
    fn warnings(&self) -> Vec<String> {
        let portal = self.portal.tls.as_ref().map(|tls| ("portal.tls", tls.files()));
        let grpc = self.grpc.as_ref().map(|grpc| ("grpc.tls", grpc.tls.clone()));
        let mut warnings = Vec::new();
        for (section, files) in portal.into_iter().chain(grpc) {
            let of_identity = match tls::Identity::load(&files.identity()) {
                Ok(identity) => identity.warnings().to_vec(),
                // It could be loaded when the config was checked.
                Err(error) => vec![error_chain(&error)],
            };
            warnings.extend(of_identity.iter().map(|warning| format!("{section}: {warning}")));
        }
        if self.grpc.as_ref().is_some_and(|grpc| grpc.roles.is_empty()) {
            warnings.push("grpc.roles is empty: nobody may call anything but health".to_owned());
        }
        if let Some(trouble) = self.no_state_dir() {
            warnings.push(format!(
                "state_dir: {trouble}: decisions would be lost in a restart"
            ));
        }
        warnings
    }

    /// Why `state_dir` cannot be a directory, as far as that can be seen without making it.
    fn no_state_dir(&self) -> Option<String> {
        let path = &self.state_dir;
        match path.metadata() {
            Ok(meta) if meta.is_dir() => None,
            Ok(_) => Some(format!("{} is not a directory", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("{} cannot be used: {error}", path.display())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
