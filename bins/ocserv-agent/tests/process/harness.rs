//! The agent's process between a portal double and a fake control socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ipc::client::send_request;
use ipc::{Request, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::fake_control::FakeControl;
use testkit::pki::{Issued, Pki};
use testkit::portal_double::{PortalDouble, PortalEvent, Reply};
use testkit::wait::{BOUND, until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ocserv-agent");

/// A portal double, a fake control socket, and a directory with the agent's files.
pub(crate) struct Harness {
    pub(crate) portal: PortalDouble,
    pub(crate) control: FakeControl,
    pub(crate) pki: Pki,
    pub(crate) files: Issued,
    pub(crate) dir: tempfile::TempDir,
}

impl Harness {
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

    /// Writes the configuration with `more` at the end of its section `[ipc]`.
    pub(crate) fn configure(&self, more: &str) -> PathBuf {
        let Issued { ca, cert, key } = &self.files;
        let uid = nix::unistd::geteuid();
        let (socket, control, state) = (self.socket(), self.path("occtl.sock"), self.path("state"));
        let tls = format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n");
        let text = format!(
            "agent_id = \"a1\"\nstate_dir = {state:?}\nsessions.sync_interval = \"1h\"\n[http]\nlisten = \"127.0.0.1:0\"\n[portal]\naddress = \"{}\"\n[portal.tls]\n{tls}[ocserv]\nocctl_socket = {control:?}\npoll_interval = \"10m\"\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\n[grpc.tls]\n{tls}\
             [ipc]\nsocket = {socket:?}\nallowed_uids = [{uid}]\n{more}",
            self.portal.uri()
        );
        let path = self.path("config.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Replaces `from` by `to` in the configuration.
    pub(crate) fn edit_config(&self, from: &str, to: &str) -> PathBuf {
        let path = self.path("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        path
    }

    /// Removes this process's uid from `ipc.allowed_uids`.
    pub(crate) fn disallow_own_uid(&self) {
        let uid = nix::unistd::geteuid();
        self.edit_config(&format!("allowed_uids = [{uid}]"), "allowed_uids = [4000000]");
    }

    /// Starts the agent with the configuration of [`Self::configure`], and waits until it is ready.
    pub(crate) fn start(&self, more: &str) -> RunningAgent {
        self.configure(more);
        self.start_configured()
    }

    /// Starts the agent with the configuration as it is, and waits until it is ready.
    pub(crate) fn start_configured(&self) -> RunningAgent {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(self.path("config.toml"));
        let agent = self.spawn(&mut command);
        agent.wait_for_log("agent is ready");
        agent
    }

    /// Spawns the agent as systemd does: with `socket` as descriptor 3, and a socket for
    /// notifications.
    pub(crate) fn spawn_with_socket(&self, socket: &UnixListener) -> RunningAgent {
        let socket = OwnedFd::from(socket.try_clone().unwrap());
        self.spawn(
            Command::new("sh")
                .args(["-c", "exec \"$0\" --config \"$1\" 3<&0 0</dev/null", PROGRAM])
                .arg(self.path("config.toml"))
                .env("LISTEN_FDS", "1")
                .env("NOTIFY_SOCKET", self.path("notify"))
                .stdin(Stdio::from(socket)),
        )
    }

    /// Binds the socket to which the agent sends systemd's notifications.
    pub(crate) fn notify_socket(&self) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.path("notify")).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket
    }

    /// Spawns `command`, which runs the agent, with its log in a file.
    pub(crate) fn spawn(&self, command: &mut Command) -> RunningAgent {
        let log = self.path("agent.log");
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        RunningAgent { child, log }
    }

    /// Sets `http.listen` to a port that is free; returns it.
    pub(crate) fn choose_http_port(&self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        self.edit_config(
            "[http]\nlisten = \"127.0.0.1:0\"",
            &format!("[http]\nlisten = \"127.0.0.1:{port}\""),
        );
        port
    }

    /// The status of a page, and nothing without a connection.
    pub(crate) fn http_status(&self, port: u16, page: &str) -> Option<u16> {
        self.http(port, page)?.get(9..12)?.parse().ok()
    }

    /// The response with a page.
    pub(crate) fn http(&self, port: u16, page: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(BOUND)).ok()?;
        write!(
            stream,
            "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        Some(response)
    }

    pub(crate) fn login(&self, user: &str, id: i32) -> Response {
        send_request(&self.socket(), BOUND, &request("connect", user, id)).unwrap()
    }

    /// Waits until the portal has received an event that is `expected`.
    pub(crate) fn wait_for_event(&self, name: &str, expected: impl Fn(&PortalEvent) -> bool) -> PortalEvent {
        self.portal.wait_for_event(name, BOUND, expected).unwrap()
    }
}

/// Receives the next notification for systemd.
pub(crate) fn next_notification(socket: &UnixDatagram) -> String {
    let mut text = [0; 1024];
    let length = socket.recv(&mut text).unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
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

/// A running agent; killed when dropped.
pub(crate) struct RunningAgent {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl RunningAgent {
    /// Waits for a log line that contains `part` and returns it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let line = || {
            fs::read_to_string(&self.log)
                .ok()?
                .lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        };
        until(&format!("{part:?} in the log"), BOUND, line).unwrap_or_else(|timeout| {
            panic!("{timeout}\n{}", fs::read_to_string(&self.log).unwrap_or_default())
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        until("the agent's exit", BOUND, || self.child.try_wait().unwrap())
            .unwrap()
            .code()
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        let _exited = self.child.kill();
        let _exited = self.child.wait();
    }
}

/// Runs the program until it exits.
pub(crate) fn run(arguments: &[&str], config: &Path) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}
