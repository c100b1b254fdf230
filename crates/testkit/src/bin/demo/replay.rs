//! The demo without ocserv: the helper runs with the recorded environment of an ocserv 1.5.0, and
//! the control socket is a double with the recorded session.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::fake_control::{FakeControl, FakeSession};
use testkit::lab::ManagedProcess;
use testkit::pki::{AGENT_NAMES, PORTAL_NAMES, Pki};
use testkit::wait::{self, BOUND};

use crate::scenario::{POLICY, program, summary};
use crate::transcript::{Failure, Transcript, ensure};

const CONNECT: &str = include_str!("../../../../../bins/vpn-auth/tests/fixtures/1.5.0/connect.env");
const DISCONNECT: &str = include_str!("../../../../../bins/vpn-auth/tests/fixtures/1.5.0/disconnect.env");
/// The session in both recordings.
const ID: i32 = 24_519;
const CONNECTED_AT: u32 = 1_795_223_232;

pub(crate) fn run() -> Result<(), Failure> {
    println!(
        "This is NOT a real VPN: neither ocserv nor a client runs. The agent, the helper and the portal are real;"
    );
    println!(
        "the helper gets the recorded environment of ocserv 1.5.0, and ocserv's control socket is a double.\n"
    );
    let transcript = Transcript::start();
    let directory = tempfile::Builder::new().prefix("ocserv-agent-demo-").tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let programs = Programs::start(directory.path())?;
    transcript
        .step("portal-dev and ocserv-agent run on loopback; the policy allows alice and denies mallory");

    let (exit, line) = programs.helper(CONNECT, "alice", ID)?;
    ensure(exit == Some(0), "alice was not allowed")?;
    transcript.step("connect of alice as recorded; vpn-auth exits with 0, which allows the login:");
    transcript.quote(&line);
    let (exit, line) = programs.helper(CONNECT, "mallory", ID + 1)?;
    ensure(exit == Some(1), "mallory was not denied")?;
    transcript.step("the same for mallory; vpn-auth exits with 1, which denies the login:");
    transcript.quote(&line);

    let list = programs.call_agent(&["sessions"])?;
    ensure(list.contains("alice"), "alice is not in the list")?;
    transcript
        .step("the portal lists the sessions (portal-dev sessions; the double lists the recorded one):");
    transcript.quote(&list);
    transcript.step("the portal disconnects alice (portal-dev disconnect alice):");
    transcript.quote(&programs.call_agent(&["disconnect", "alice"])?);
    ensure(
        programs.control.sessions().is_empty(),
        "the double got no disconnect",
    )?;
    let (exit, _) = programs.helper(DISCONNECT, "alice", ID)?;
    ensure(exit == Some(0), "the disconnect was not accepted")?;

    let connect = programs.event("connect")?;
    let disconnect = programs.event("disconnect")?;
    ensure(
        connect["session_uid"] == disconnect["session_uid"],
        "the two events are not about one session",
    )?;
    ensure(
        disconnect["stats"]["bytes_received"] == 95_784,
        "the byte counts are not ocserv's",
    )?;
    transcript.step("the events that the portal received, with the recorded byte counts:");
    for event in [&connect, &disconnect] {
        transcript.quote(&summary(event));
    }
    drop(programs);
    transcript.step("everything is stopped and removed; as root on Debian, the demo runs on a real ocserv");
    Ok(())
}

/// The running programs and the control socket.
struct Programs {
    directory: PathBuf,
    grpc: String,
    control: FakeControl,
    _portal: ManagedProcess,
    agent: ManagedProcess,
}

impl Programs {
    fn start(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir(directory.join("pki"))?;
        let pki = Pki::create(&directory.join("pki"))?;
        let (portal_files, agent_files) = (pki.portal()?, pki.agent()?);
        fs::write(directory.join("policy.toml"), POLICY)?;
        let control = FakeControl::start(&directory.join("occtl.sock"))?;

        let mut portal = Command::new(program("portal-dev"));
        portal
            .args(["serve", "--listen", "127.0.0.1:0", "--policy"])
            .arg(directory.join("policy.toml"));
        portal
            .arg("--events")
            .arg(directory.join("events.jsonl"))
            .arg("--control")
            .arg(directory.join("portal-dev.sock"))
            .arg("--ca")
            .arg(&portal_files.ca);
        portal
            .arg("--cert")
            .arg(&portal_files.cert)
            .arg("--key")
            .arg(&portal_files.key);
        let portal = ManagedProcess::spawn("portal-dev", portal, &directory.join("portal-dev.log"), &[])?;
        let ready = portal.wait_for_log("ready on https:", BOUND)?;
        let address = ready
            .rsplit("ready on ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();

        let grpc = free_address()?;
        let [ca, cert, key] =
            [&agent_files.ca, &agent_files.cert, &agent_files.key].map(|path| path.display());
        let tls = format!("ca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n");
        let here = directory.display();
        let config = format!(
            "agent_id = \"demo\"\nenvironment = \"development\"\nstate_dir = \"{here}/state\"\n\
             sessions.sync_interval = \"1h\"\n\
             [portal]\naddress = \"{address}\"\n[portal.tls]\nserver_name = \"{}\"\n{tls}\
             [ipc]\nsocket = \"{here}/run/ipc.sock\"\nallowed_uids = [{}]\n\
             [grpc]\nlisten = \"{grpc}\"\n[grpc.tls]\n{tls}[grpc.roles]\n\"{}\" = \"operator\"\n\
             [ocserv]\nocctl_socket = \"{here}/occtl.sock\"\npoll_interval = \"10m\"\n",
            PORTAL_NAMES[0],
            nix::unistd::getuid(),
            PORTAL_NAMES[0],
        );
        fs::write(directory.join("agent.toml"), config)?;
        let mut agent = Command::new(program("ocserv-agent"));
        agent.arg("--config").arg(directory.join("agent.toml"));
        let agent = ManagedProcess::spawn("the agent", agent, &directory.join("agent.log"), &[])?;
        let socket = directory.join("run/ipc.sock");
        agent.wait_until("its IPC socket", BOUND, || UnixStream::connect(&socket).ok())?;
        agent.wait_for_log("portal connected", BOUND)?;
        // After the agent's start: it would import a session that was listed before.
        control.set_sessions(vec![recorded_session()]);
        Ok(Self {
            directory: directory.to_owned(),
            grpc,
            control,
            _portal: portal,
            agent,
        })
    }

    /// Runs the helper as ocserv would, for `user` in session `id`; returns its exit code and
    /// output.
    fn helper(&self, recorded: &str, user: &str, id: i32) -> Result<(Option<i32>, String), Failure> {
        let mut helper = Command::new(program("vpn-auth"));
        helper
            .arg("--socket")
            .arg(self.directory.join("run/ipc.sock"))
            .env_clear();
        helper
            .envs(recorded.lines().filter_map(|line| line.split_once('=')))
            .env("USERNAME", user)
            .env("ID", id.to_string());
        let Output { status, stderr, .. } = helper.output()?;
        Ok((status.code(), String::from_utf8_lossy(&stderr).into_owned()))
    }

    fn call_agent(&self, arguments: &[&str]) -> Result<String, Failure> {
        let pki = self.directory.join("pki");
        let mut portal = Command::new(program("portal-dev"));
        portal.args(arguments).args([
            "--agent",
            &format!("https://{}", self.grpc),
            "--server-name",
            AGENT_NAMES[0],
        ]);
        portal
            .arg("--ca")
            .arg(pki.join("ca.pem"))
            .arg("--cert")
            .arg(pki.join("portal.pem"));
        let Output {
            status,
            stdout,
            stderr,
        } = portal.arg("--key").arg(pki.join("portal.key")).output()?;
        ensure(status.success(), &String::from_utf8_lossy(&stderr))?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    fn event(&self, kind: &str) -> Result<Value, Failure> {
        let events = self.directory.join("events.jsonl");
        Ok(wait::until(&format!("the {kind} of alice"), BOUND, || {
            let text = fs::read_to_string(&events).ok()?;
            let mut lines = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["kind"] == kind && line["username"] == "alice")
        })?)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.agent.terminate(BOUND);
    }
}

/// Returns an address of loopback with a free port.
fn free_address() -> std::io::Result<String> {
    TcpListener::bind("127.0.0.1:0")?
        .local_addr()
        .map(|address| address.to_string())
}

fn recorded_session() -> FakeSession {
    FakeSession {
        id: ID,
        connected_at: CONNECTED_AT,
        vpn_ipv4: "10.88.63.50".to_owned(),
        client_ip: "10.77.0.2".to_owned(),
        group: "staff".to_owned(),
        ..FakeSession::connected(ID, "alice")
    }
}
