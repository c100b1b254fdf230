//! What the program stands between, and a hold on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use ipc::client::send_request;
use ipc::{Request, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::fake_control::FakeControl;
use testkit::pki::{Issued, Pki};
use testkit::portal_double::{PortalDouble, PortalEvent, Reply};
use testkit::wait::{BOUND, until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ocserv-agent");

/// A portal, an ocserv's control socket and a directory for the agent between them.
pub(crate) struct Place {
    pub(crate) portal: PortalDouble,
    pub(crate) control: FakeControl,
    pub(crate) pki: Pki,
    pub(crate) files: Issued,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path()).unwrap();
        let portal = PortalDouble::on_loopback(&pki.portal().unwrap()).unwrap();
        portal.on_check(Reply::allow());
        portal.on_event(Reply::acknowledge(true));
        let control = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
        let files = pki.agent().unwrap();
        Self {
            portal,
            control,
            pki,
            files,
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/ipc.sock")
    }

    /// Writes the configuration with `more` at its end.
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        let Issued { ca, cert, key } = &self.files;
        let uid = nix::unistd::geteuid();
        let (socket, control, state) = (self.socket(), self.path("occtl.sock"), self.path("state"));
        let tls = format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n");
        let text = format!(
            "agent_id = \"a1\"\nstate_dir = {state:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[portal]\naddress = \"{}\"\n[portal.tls]\n{tls}[ocserv]\nocctl_socket = {control:?}\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\n[grpc.tls]\n{tls}\
             [ipc]\nsocket = {socket:?}\nallowed_uids = [{uid}]\n{more}",
            self.portal.uri()
        );
        let path = self.path("config.toml");
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn start(&self, more: &str) -> Running {
        let config = self.configure(more);
        self.launch(&config)
    }

    /// Starts it with another configuration than the usual one.
    pub(crate) fn start_with(&self, change: impl FnOnce(&str) -> String) -> Running {
        let config = self.configure("");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, change(&text)).unwrap();
        self.launch(&config)
    }

    fn launch(&self, config: &Path) -> Running {
        let log = self.path("agent.log");
        let stderr = fs::File::create(&log).unwrap();
        let child = Command::new(PROGRAM)
            .arg("--config")
            .arg(config)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let running = Running { child, log };
        running.logs("agent is ready");
        running
    }

    pub(crate) fn login(&self, user: &str, id: i32) -> Response {
        send_request(&self.socket(), BOUND, &request("connect", user, id)).unwrap()
    }

    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&PortalEvent) -> bool) -> PortalEvent {
        self.portal.wait_for_event(what, BOUND, wanted).unwrap()
    }
}

pub(crate) fn request(reason: &str, user: &str, id: i32) -> Request {
    Request {
        reason: reason.to_owned(),
        username: user.to_owned(),
        ip_real: "10.77.0.2".to_owned(),
        session_id: id.to_string(),
        ..Request::default()
    }
}

/// A running agent; killed when the test is over.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Running {
    /// Waits for a line of its log.
    pub(crate) fn logs(&self, part: &str) -> String {
        let line = || {
            fs::read_to_string(&self.log)
                .ok()?
                .lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        };
        until(&format!("{part:?} in the log"), BOUND, line)
            .unwrap_or_else(|late| panic!("{late}\n{}", fs::read_to_string(&self.log).unwrap_or_default()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        until("the agent to end", BOUND, || self.child.try_wait().unwrap())
            .unwrap()
            .code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

pub(crate) fn run(arguments: &[&str], config: &Path) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}
