//! The reference portal of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::agent::{AGENT_GRPC, PORTAL};
use super::error::LabError;
use super::netns::{Network, Node, run};
use super::process::ManagedProcess;
use super::requirements::own_program;
use crate::pki::{AGENT_NAMES, Issued};
use crate::wait::BOUND;

/// Settings of a lab's reference portal.
#[derive(Debug, Clone, Default)]
pub struct PortalOptions {
    /// The policy file.
    pub policy: String,
    /// Certificate and key; `None` takes a valid one.
    pub identity: Option<Issued>,
    /// Further arguments.
    pub extra: Vec<String>,
}

/// The reference portal on the portal node. The handle exists from the beginning; the program runs
/// between `start` and `kill`.
#[derive(Debug)]
pub struct PortalDev {
    directory: PathBuf,
    network: Network,
    identity: Issued,
    running: Mutex<Option<Arc<ManagedProcess>>>,
    runs: AtomicU32,
}

impl PortalDev {
    pub(crate) fn new(directory: &Path, network: &Network, identity: Issued) -> Self {
        Self {
            directory: directory.to_owned(),
            network: network.clone(),
            identity,
            running: Mutex::new(None),
            runs: AtomicU32::new(0),
        }
    }

    /// Writes the policy, starts the portal and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; the error has its log.
    pub fn start(&self, options: &PortalOptions) -> Result<(), LabError> {
        self.kill();
        self.set_policy(&options.policy)?;
        let program = own_program("portal-dev")?;
        let identity = options.identity.as_ref().unwrap_or(&self.identity);
        let mut command = self.network.command(Node::Portal, &program);
        command
            .args(["serve", "--listen", PORTAL])
            .arg("--policy")
            .arg(self.policy_file());
        command
            .arg("--ca")
            .arg(&identity.ca)
            .arg("--cert")
            .arg(&identity.cert)
            .arg("--key")
            .arg(&identity.key);
        command
            .arg("--events")
            .arg(self.events_file())
            .arg("--control")
            .arg(self.control_socket())
            .args(&options.extra);
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("portal-dev.{number}.log"));
        let running = ManagedProcess::spawn("portal-dev", command, &log, &[])?;
        running.wait_for_log("ready on https:", BOUND)?;
        *self.slot() = Some(Arc::new(running));
        Ok(())
    }

    /// Replaces the policy file; a running portal reloads it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_policy(&self, text: &str) -> Result<(), LabError> {
        let new = self.directory.join("policy.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, self.policy_file()))
            .map_err(LabError::io("write the portal's policy"))
    }

    /// Kills the portal.
    pub fn kill(&self) {
        let running = self.slot().take();
        if let Some(running) = running {
            running.kill();
        }
    }

    /// Returns the process, for its log and for signals.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process(&self) -> Result<Arc<ManagedProcess>, LabError> {
        self.slot().clone().ok_or(LabError::NotRunning("portal-dev"))
    }

    /// Returns what it has received so far, in order: the complete lines of its events file.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.events_file()).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for an event that `wanted` accepts and returns it; `what` describes it in the error.
    ///
    /// # Errors
    /// When there is none within `bound`, or the portal exited.
    pub fn wait_for_event(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, LabError> {
        let process = self.process()?;
        process.wait_until(what, bound, || {
            self.events().into_iter().find(|event| wanted(event))
        })
    }

    /// Runs a command of the portal against the lab's agent, such as `["sessions"]` or
    /// `["disconnect", "alice"]`, and returns its output.
    ///
    /// # Errors
    /// When it fails; the error has its output.
    pub fn call_agent(&self, arguments: &[&str]) -> Result<String, LabError> {
        self.call_agent_as(&self.identity, arguments)
    }

    /// As [`Self::call_agent`], with another certificate than the portal's own.
    ///
    /// # Errors
    /// When it fails; the error has its output.
    pub fn call_agent_as(&self, identity: &Issued, arguments: &[&str]) -> Result<String, LabError> {
        let (verb, rest) = arguments
            .split_first()
            .ok_or(LabError::Config("no command for the portal".to_owned()))?;
        let mut command = self.network.command(Node::Portal, &own_program("portal-dev")?);
        let agent = format!("https://{AGENT_GRPC}");
        command
            .arg(verb)
            .args(["--agent", &agent, "--server-name", AGENT_NAMES[0]]);
        command
            .arg("--ca")
            .arg(&identity.ca)
            .arg("--cert")
            .arg(&identity.cert);
        command.arg("--key").arg(&identity.key).args(rest);
        run(&mut command, "")
    }

    /// Runs a command of the portal against the running portal, such as `["agents", "--json"]` or
    /// `["action", "vpn1", "drain"]`, and returns its output.
    ///
    /// # Errors
    /// When it fails; the error has its output.
    pub fn call_portal(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = self.network.command(Node::Portal, &own_program("portal-dev")?);
        command
            .args(arguments)
            .arg("--control")
            .arg(self.control_socket());
        run(&mut command, "")
    }

    fn control_socket(&self) -> PathBuf {
        self.directory.join("portal-dev.sock")
    }

    /// Returns the path of the policy file.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.directory.join("policy.toml")
    }

    /// Returns the path of the events file: one JSON object a line.
    #[must_use]
    pub fn events_file(&self) -> PathBuf {
        self.directory.join("events.jsonl")
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<ManagedProcess>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
