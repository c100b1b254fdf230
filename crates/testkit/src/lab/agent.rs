//! The agent of a lab.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use toml::{Table, Value};

use super::error::LabError;
use super::netns::{Network, Node};
use super::process::ManagedProcess;
use super::requirements::own_program;
use crate::pki::{Issued, PORTAL_NAMES};
use crate::wait::BOUND;

/// The address that the lab's agent serves gRPC on.
pub const AGENT_GRPC: &str = "10.78.0.1:9443";
/// The address that the lab's portal listens on, the reference portal or a double.
pub const PORTAL: &str = "10.78.0.2:9444";

/// Settings of a lab's agent. Those without a field go into `extra`.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// `portal.address`; `None` leaves it out.
    pub portal: Option<String>,
    /// The policy file of an agent without a portal.
    pub policy_file: Option<PathBuf>,
    /// Whether the agent serves gRPC; without it the portal cannot dial in, as behind NAT.
    pub grpc: bool,
    /// Longest time of one call to the portal.
    pub portal_timeout: Duration,
    /// Longest time of one login in the agent.
    pub ipc_deadline: Duration,
    /// Longest time that the helper waits.
    pub helper_deadline: Duration,
    /// Certificate and key, for the portal and for its own server; `None` takes a valid one.
    pub identity: Option<Issued>,
    /// `log.level`.
    pub log_level: String,
    /// TOML that overrides single keys.
    pub extra: String,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            portal: Some(format!("https://{PORTAL}")),
            policy_file: None,
            grpc: true,
            portal_timeout: Duration::from_secs(2),
            ipc_deadline: Duration::from_secs(3),
            helper_deadline: Duration::from_secs(4),
            identity: None,
            log_level: "debug".to_owned(),
            extra: String::new(),
            env: Vec::new(),
        }
    }
}

/// The agent on the server node. The handle exists from the beginning; the program runs between
/// `start` and `stop`.
#[derive(Debug)]
pub struct Agent {
    directory: PathBuf,
    network: Network,
    identity: Issued,
    state: Mutex<State>,
    runs: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Arc<ManagedProcess>>,
    last: Option<Arc<ManagedProcess>>,
}

impl Agent {
    pub(crate) fn new(directory: &Path, network: &Network, identity: Issued) -> Self {
        Self {
            directory: directory.to_owned(),
            network: network.clone(),
            identity,
            state: Mutex::default(),
            runs: AtomicU32::new(0),
        }
    }

    /// Writes the configuration, starts the agent and waits until its IPC socket accepts
    /// connections.
    ///
    /// # Errors
    /// When it does not start; the error has its log.
    pub fn start(&self, options: &AgentOptions) -> Result<(), LabError> {
        let running = self.launch(options)?;
        running.wait_until("its IPC socket", BOUND, || {
            UnixStream::connect(self.socket()).ok()
        })?;
        self.state().running = Some(running);
        Ok(())
    }

    /// Writes the configuration and starts the agent without waiting, for starts that must fail.
    ///
    /// # Errors
    /// When the program has not been built.
    pub fn launch(&self, options: &AgentOptions) -> Result<Arc<ManagedProcess>, LabError> {
        self.kill();
        self.write_config(options)?;
        let program = own_program("ocserv-agent")?;
        let mut command = self.network.command(Node::Server, &program);
        command
            .arg("--config")
            .arg(self.config())
            .envs(options.env.iter().map(|(k, v)| (k, v)));
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("agent.{run}.log"));
        let running = Arc::new(ManagedProcess::spawn("the agent", command, &log, &[])?);
        self.state().last = Some(Arc::clone(&running));
        Ok(running)
    }

    /// Writes the configuration as [`Self::start`] does; a running agent reads it on its next
    /// reload.
    ///
    /// # Errors
    /// When `extra` is not TOML or the file cannot be written.
    pub fn write_config(&self, options: &AgentOptions) -> Result<(), LabError> {
        let mut config = self.base(options);
        let extra: Table = options
            .extra
            .parse()
            .map_err(|error| LabError::Config(format!("{error}")))?;
        merge(&mut config, extra);
        fs::write(self.config(), config.to_string()).map_err(LabError::io("write the agent's configuration"))
    }

    fn base(&self, options: &AgentOptions) -> Table {
        let identity = options.identity.as_ref().unwrap_or(&self.identity);
        let files = [
            ("ca", &identity.ca),
            ("cert", &identity.cert),
            ("key", &identity.key),
        ];
        let own = table(files.map(|(key, path)| (key, text(path))));
        let portal = match &options.policy_file {
            Some(path) => table([("mode", "embedded".into()), ("policy_file", text(path))]),
            None => portal_section(options, own.clone()),
        };
        let ipc = table([
            ("socket", text(&self.socket())),
            ("deadline", span(options.ipc_deadline)),
            ("helper_deadline", span(options.helper_deadline)),
        ]);
        let roles = table([(PORTAL_NAMES[0], "operator".into())]);
        let grpc = table([
            ("listen", AGENT_GRPC.into()),
            ("tls", own.into()),
            ("roles", roles.into()),
        ]);
        let ocserv = table([("occtl_socket", text(&self.directory.join("occtl.sock")))]);
        let log = table([
            ("level", options.log_level.as_str().into()),
            ("format", "json".into()),
        ]);
        let mut config = table([
            ("agent_id", "lab-agent".into()),
            ("hostname", "vpn.lab".into()),
            ("environment", "development".into()),
            ("state_dir", text(&self.state_dir())),
            ("portal", portal.into()),
            ("ipc", ipc.into()),
            ("ocserv", ocserv.into()),
            ("log", log.into()),
        ]);
        if options.grpc {
            config.insert("grpc".to_owned(), grpc.into());
        }
        config
    }

    /// Sends SIGTERM and waits until the agent has shut down.
    ///
    /// # Errors
    /// When it is not running, or still runs after [`BOUND`].
    pub fn stop(&self) -> Result<(), LabError> {
        self.process()?.signal(Signal::SIGTERM);
        let running = self
            .state()
            .running
            .take()
            .ok_or(LabError::NotRunning("the agent"))?;
        running.wait_exit(BOUND).map(drop)
    }

    /// Kills the agent.
    pub fn kill(&self) {
        let running = self.state().running.take();
        if let Some(running) = running {
            running.kill();
        }
    }

    /// Sends SIGHUP: the agent reads its configuration and certificates again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn reload(&self) -> Result<(), LabError> {
        self.process().map(|running| running.signal(Signal::SIGHUP))
    }

    /// Returns the process, for its pid and for signals.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process(&self) -> Result<Arc<ManagedProcess>, LabError> {
        self.state()
            .running
            .clone()
            .ok_or(LabError::NotRunning("the agent"))
    }

    /// Returns the log of the last run: one JSON object a line.
    #[must_use]
    pub fn logs(&self) -> String {
        self.state()
            .last
            .as_ref()
            .map(|last| last.logs())
            .unwrap_or_default()
    }

    /// Waits for a log line of the last run that contains `part` and returns the line.
    ///
    /// # Errors
    /// When there is none within `bound`.
    pub fn wait_for_log(&self, part: &str, bound: Duration) -> Result<String, LabError> {
        let last = self
            .state()
            .last
            .clone()
            .ok_or(LabError::NotRunning("the agent"))?;
        last.wait_for_log(part, bound)
    }

    /// Returns the path of the IPC socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent/ipc.sock")
    }

    /// Returns the state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Returns the path of the configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the section `portal`.
fn portal_section(options: &AgentOptions, mut tls: Table) -> Table {
    tls.insert("server_name".to_owned(), PORTAL_NAMES[0].into());
    let mut portal = table([("timeout", span(options.portal_timeout)), ("tls", tls.into())]);
    if let Some(address) = &options.portal {
        portal.insert("address".to_owned(), address.as_str().into());
    }
    portal
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Table {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

fn span(duration: Duration) -> Value {
    format!("{}ms", duration.as_millis()).into()
}

/// Merges `over` into `base`: tables merge, everything else replaces.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::merge;

    #[test]
    fn extra_settings_replace_single_keys_only() {
        let mut base: Table = "a = 1\n[t]\nx = 1\ny = 2".parse().unwrap();
        merge(&mut base, "[t]\ny = 3\n[t.u]\nz = 4".parse().unwrap());
        assert_eq!(base, "a = 1\n[t]\nx = 1\ny = 3\n[t.u]\nz = 4".parse().unwrap());
    }
}
