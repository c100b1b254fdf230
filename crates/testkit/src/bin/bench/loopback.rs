//! The agent on loopback: a portal double in this process, no ocserv.
//!
//! No ocserv means that its control socket refuses at once when the agent asks it, after the
//! answer, when a session began. What an ocserv would have to do then is not the agent's time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc::client::send_request;
use ipc::{Request, Response};
use tempfile::TempDir;
use testkit::lab::{ManagedProcess, own_program};
use testkit::pki::{Issued, PORTAL_NAMES, Pki};
use testkit::portal_double::PortalDouble;
use testkit::wait;

use super::process::{self, Program};
use super::report::Failure;

/// The helper's own deadline in its default.
pub(crate) const HELPER_DEADLINE: Duration = Duration::from_secs(4);

/// An agent with a portal; dropping it ends both.
pub(crate) struct Loopback {
    agent: ManagedProcess,
    portal: PortalDouble,
    pki: Pki,
    directory: TempDir,
}

impl Loopback {
    /// Starts both, with `extra` at the end of the agent's configuration, and waits until a login
    /// is decided by the portal, which allows everyone and wants nothing remembered.
    pub(crate) fn start(extra: &str) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let pki = Pki::create(directory.path())?;
        let portal = PortalDouble::on_loopback(&pki.portal()?)?;
        portal.on_check(testkit::portal_double::Reply::allow_for(Duration::ZERO));
        let config = directory.path().join("agent.toml");
        fs::write(
            &config,
            configuration(directory.path(), &portal, &pki.agent()?, extra),
        )?;
        let mut command = process::tied(own_program("ocserv-agent")?);
        command.arg("--config").arg(&config);
        let agent = ManagedProcess::spawn("the agent", command, &directory.path().join("agent.log"), &[])?;
        let loopback = Self {
            agent,
            portal,
            pki,
            directory,
        };
        loopback
            .agent
            .wait_until("a decision of the portal", wait::BOUND, || {
                let answer = loopback.ask(&login("warm-up", 1)).ok()?;
                (answer.source.as_deref() == Some("portal")).then_some(())
            })?;
        Ok(loopback)
    }

    pub(crate) fn ask(&self, request: &Request) -> Result<Response, Failure> {
        Ok(send_request(&self.socket(), HELPER_DEADLINE, request)?)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.directory.path())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn portal(&self) -> &PortalDouble {
        &self.portal
    }

    /// The portal's view of the world, to call it as the agent does.
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(crate) fn program(&self) -> Program {
        Program(self.agent.pid())
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("run/ipc.sock")
}

fn configuration(directory: &Path, portal: &PortalDouble, identity: &Issued, extra: &str) -> String {
    format!(
        r#"agent_id = "bench"
environment = "development"
state_dir = "{directory}/state"

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
occtl_socket = "{directory}/no-ocserv"

[http]
listen = "127.0.0.1:0"

[log]
format = "json"

{extra}
"#,
        directory = directory.display(),
        address = portal.uri(),
        ca = identity.ca.display(),
        cert = identity.cert.display(),
        key = identity.key.display(),
        name = PORTAL_NAMES[0],
        socket = socket(directory).display(),
        uid = nix::unistd::geteuid(),
    )
}

/// A login as the helper reports it, with everything that openconnect lets it know.
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

/// The report that a session is over.
pub(crate) fn logout(user: &str, id: usize) -> Request {
    Request {
        reason: "disconnect".to_owned(),
        bytes_in: Some(1),
        bytes_out: Some(1),
        duration_seconds: Some(1),
        ..login(user, id)
    }
}
