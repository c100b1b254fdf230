//! The agent on loopback, with a portal double in this process and without ocserv.
//!
//! Without ocserv, its control socket refuses at once what the agent requests after a response: the
//! time of an ocserv is not the agent's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ipc::client::{ClientError, send_request};
use ipc::{Request, Response};
use tempfile::TempDir;
use testkit::lab::{ManagedProcess, own_program};
use testkit::pki::{Issued, PORTAL_NAMES, Pki};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::wait;

use super::process::{self, Process};
use super::report::Failure;

/// The helper's default deadline.
pub(crate) const HELPER_DEADLINE: Duration = Duration::from_secs(4);

const AGENT: &str = "ocserv-agent";

/// What an agent needs to start: a portal, certificates, and a configuration.
pub(crate) struct Setup {
    portal: PortalDouble,
    pki: Pki,
    directory: TempDir,
}

impl Setup {
    /// Starts a portal whose decisions must not be cached, and writes a configuration.
    pub(crate) fn new() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let pki = Pki::create(directory.path())?;
        let portal = PortalDouble::on_loopback(&pki.portal()?)?;
        portal.on_check(Reply::allow_for(Duration::ZERO));
        let setup = Self {
            portal,
            pki,
            directory,
        };
        let text = configuration(setup.directory.path(), &setup.portal, &setup.pki.agent()?);
        fs::write(setup.config(), text)?;
        Ok(setup)
    }

    /// Starts an agent, without a wrapper whose start would be measured too. Dropping it kills it.
    pub(crate) fn start_agent(&self) -> Result<ManagedProcess, Failure> {
        self.spawn(Command::new(own_program(AGENT)?))
    }

    /// Starts an agent and waits until the portal has decided a login.
    pub(crate) fn connected_agent(self) -> Result<Loopback, Failure> {
        let agent = self.spawn(process::killed_with_parent(own_program(AGENT)?))?;
        agent.wait_until("decision of the portal", wait::BOUND, || {
            let response = self.send(&login("warm-up", 1)).ok()?;
            (response.source.as_deref() == Some("portal")).then_some(())
        })?;
        Ok(Loopback { agent, setup: self })
    }

    fn spawn(&self, mut command: Command) -> Result<ManagedProcess, Failure> {
        command.arg("--config").arg(self.config());
        let log = self.directory.path().join("agent.log");
        Ok(ManagedProcess::spawn("the agent", command, &log, &[])?)
    }

    /// Removes the state of earlier agents.
    pub(crate) fn remove_state(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(self.directory.path().join("state")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn send(&self, request: &Request) -> Result<Response, ClientError> {
        send_request(&self.socket(), HELPER_DEADLINE, request)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.directory.path())
    }

    /// Returns the path of ocserv's control socket in the configuration; nothing listens there.
    pub(crate) fn control_socket(&self) -> PathBuf {
        control_socket(self.directory.path())
    }

    pub(crate) fn portal(&self) -> &PortalDouble {
        &self.portal
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("agent.toml")
    }
}

/// A running agent with its setup; dropping it stops the agent and the portal.
pub(crate) struct Loopback {
    agent: ManagedProcess,
    setup: Setup,
}

impl Loopback {
    /// Starts an agent with the default configuration and waits until the portal has decided a
    /// login.
    pub(crate) fn start() -> Result<Self, Failure> {
        Setup::new()?.connected_agent()
    }

    pub(crate) fn send(&self, request: &Request) -> Result<Response, ClientError> {
        self.setup.send(request)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.setup.socket()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.setup.directory.path()
    }

    pub(crate) fn portal(&self) -> &PortalDouble {
        self.setup.portal()
    }

    /// Returns the certificates, to call the portal as the agent does.
    pub(crate) fn pki(&self) -> &Pki {
        &self.setup.pki
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.agent.pid())
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("run/ipc.sock")
}

fn control_socket(directory: &Path) -> PathBuf {
    directory.join("occtl.sock")
}

fn configuration(directory: &Path, portal: &PortalDouble, identity: &Issued) -> String {
    format!(
        r#"agent_id = "bench"
environment = "development"
state_dir = "{directory}/state"
sessions.sync_interval = "1h"

[portal]
address = "{address}"
[portal.tls]
ca = "{ca}"
cert = "{cert}"
key = "{key}"
server_name = "{name}"

[ipc]
socket = "{socket}"
allowed_uids = [{uid}]

[ocserv]
occtl_socket = "{control_socket}"
poll_interval = "10m"

[http]
listen = "127.0.0.1:0"

[log]
format = "json"
"#,
        directory = directory.display(),
        address = portal.uri(),
        ca = identity.ca.display(),
        cert = identity.cert.display(),
        key = identity.key.display(),
        name = PORTAL_NAMES[0],
        socket = socket(directory).display(),
        control_socket = control_socket(directory).display(),
        uid = nix::unistd::geteuid(),
    )
}

/// Returns a login with every field that the helper sends for openconnect.
pub(crate) fn login(user: &str, id: usize) -> Request {
    let some = |text: &str| Some(text.to_owned());
    Request {
        reason: "connect".to_owned(),
        username: user.to_owned(),
        groupname: "staff".to_owned(),
        ip_real: "192.0.2.17".to_owned(),
        ip_remote: "10.88.63.50".to_owned(),
        device: "vpns0".to_owned(),
        session_id: id.to_string(),
        version: Some(ipc::PROTOCOL_VERSION),
        deadline_ms: u64::try_from(HELPER_DEADLINE.as_millis()).ok(),
        vhost: some("default"),
        hostname: some("laptop"),
        user_agent: some("Open AnyConnect VPN Agent v9.12"),
        device_platform: some("linux-64"),
        ip_local: some("10.88.0.1"),
        ip_real_local: some("198.51.100.1"),
        ..Request::default()
    }
}

/// Returns the disconnect of a login.
pub(crate) fn logout(user: &str, id: usize) -> Request {
    Request {
        reason: "disconnect".to_owned(),
        bytes_in: Some(1),
        bytes_out: Some(1),
        duration_seconds: Some(1),
        ..login(user, id)
    }
}
