//! The reference portal of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::agent::{AGENT_GRPC, PORTAL};
use super::netns::{Network, Place, run};
use super::requirements::own_program;
use super::{LabError, Running};
use crate::pki::{AGENT_NAMES, Issued};
use crate::wait::BOUND;

/// How a lab's reference portal is set up.
#[derive(Debug, Clone, Default)]
pub struct PortalOptions {
    /// The policy file.
    pub policy: String,
    /// Its files; `None` takes a good one.
    pub identity: Option<Issued>,
    /// Further arguments.
    pub extra: Vec<String>,
}

/// The reference portal in the portal's namespace. The handle is there from the start; the program runs between start
/// and stop.
#[derive(Debug)]
pub struct PortalDev {
    directory: PathBuf,
    network: Network,
    identity: Issued,
    running: Mutex<Option<Arc<Running>>>,
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
    /// When it does not come up; the error has its log.
    pub fn start(&self, options: &PortalOptions) -> Result<(), LabError> {
        self.kill();
        self.set_policy(&options.policy)?;
        let program = own_program("portal-dev")?;
        let identity = options.identity.as_ref().unwrap_or(&self.identity);
        let mut command = self.network.command(Place::Portal, &program);
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
            .args(&options.extra);
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("portal-dev.{number}.log"));
        let running = Running::spawn("portal-dev", command, &log, &[])?;
        running.wait_for_log("ready on https:", BOUND)?;
        *self.slot() = Some(Arc::new(running));
        Ok(())
    }

    /// Replaces the policy file as a whole; a running portal reads it again by itself.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_policy(&self, text: &str) -> Result<(), LabError> {
        let new = self.directory.join("policy.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, self.policy_file()))
            .map_err(LabError::io("write the portal's policy"))
    }

    /// Kills it at once.
    pub fn kill(&self) {
        let running = self.slot().take();
        if let Some(running) = running {
            running.kill();
        }
    }

    /// The running portal, for its log and for signals.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process(&self) -> Result<Arc<Running>, LabError> {
        self.slot().clone().ok_or(LabError::NotRunning("portal-dev"))
    }

    /// What it has received so far, in order: the whole lines of its events file.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.events_file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for an event that `wanted` accepts and returns it; `what` names it in the error.
    ///
    /// # Errors
    /// When it does not come within the bound, or the portal ended.
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

    /// Runs the portal's command line against the lab's agent, such as `["sessions"]` or `["disconnect", "alice"]`, and
    /// returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error has its output.
    pub fn call_agent(&self, words: &[&str]) -> Result<String, LabError> {
        self.call_agent_as(&self.identity, words)
    }

    /// As [`Self::call_agent`], with other files than the portal's own.
    ///
    /// # Errors
    /// When it fails; the error has its output.
    pub fn call_agent_as(&self, identity: &Issued, words: &[&str]) -> Result<String, LabError> {
        let (verb, rest) = words
            .split_first()
            .ok_or(LabError::Config("no command for the portal".to_owned()))?;
        let mut command = self.network.command(Place::Portal, &own_program("portal-dev")?);
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

    /// The policy file.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.directory.join("policy.toml")
    }

    /// The file that it writes events to, one JSON object a line.
    #[must_use]
    pub fn events_file(&self) -> PathBuf {
        self.directory.join("events.jsonl")
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
