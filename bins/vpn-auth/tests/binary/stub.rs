//! An agent for one connection, and bounded runs of the real helper.

use std::{
    io::Read,
    os::unix::{
        net::{UnixListener, UnixStream},
        process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use ipc::{FrameDecoder, Request};

/// Longer than any run takes.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The helper as built for this test.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_vpn-auth");

/// An agent that serves one connection on its own thread.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
    thread: JoinHandle<Request>,
}

impl Agent {
    /// Reads one request, then runs `act`; the connection closes when `act` returns.
    pub(crate) fn new(act: impl FnOnce(&mut UnixStream) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let listener = UnixListener::bind(directory.path().join("ipc.sock")).expect("listener");
        let thread = thread::spawn(move || {
            let mut peer = listener.accept().expect("connection").0;
            let (mut decoder, mut buffer) = (FrameDecoder::new(), [0; 512]);
            let body = loop {
                let read = peer.read(&mut buffer).expect("a request");
                if let Some(body) = decoder.push(&buffer[..read]).expect("one frame") {
                    break body;
                }
            };
            act(&mut peer);
            Request::from_json(&body).expect("request")
        });
        Self { directory, thread }
    }

    /// Sends `bytes` in one piece.
    pub(crate) fn sending(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        use std::io::Write;
        // The helper may close the connection on an invalid response.
        Self::new(move |peer| drop(peer.write_all(bytes.as_ref())))
    }

    /// Reads the request and sends nothing until the helper closes the connection.
    pub(crate) fn silent() -> Self {
        Self::new(|peer| drop(peer.read_to_end(&mut Vec::new())))
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("ipc.sock")
    }

    /// The request that it read.
    pub(crate) fn request(self) -> Request {
        self.thread.join().expect("agent")
    }
}

/// The helper with alice's login, and nothing else, in its environment.
pub(crate) fn helper(socket: impl Into<PathBuf>, flags: &str) -> Command {
    let mut command = Command::new(HELPER);
    command
        .arg("--socket")
        .arg(socket.into())
        .args(flags.split_whitespace());
    as_ocserv(&mut command);
    command
}

/// Sets the environment and the streams of an ocserv script.
pub(crate) fn as_ocserv(command: &mut Command) {
    command
        .env_clear()
        .envs([
            ("REASON", "connect"),
            ("USERNAME", "alice"),
            ("ID", "4711"),
            ("GROUPNAME", "staff"),
        ])
        .envs([
            ("IP_REAL", "10.77.0.2"),
            ("IP_REMOTE", "10.88.63.50"),
            ("DEVICE", "bvpn0"),
            ("VHOST", "default"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    finish(command.spawn().expect("spawn"))
}

/// Waits for the end; a run over [`BOUND`] is killed and fails the test.
pub(crate) fn finish(child: Child) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(BOUND) else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        panic!("the helper hangs")
    };
    output.expect("output")
}

/// The exit code, or minus the signal; and the line on stderr.
pub(crate) fn code_and_line(output: &Output) -> (i32, String) {
    let code = output
        .status
        .code()
        .or(output.status.signal().map(|signal| -signal))
        .expect("an end");
    (code, String::from_utf8(output.stderr.clone()).expect("UTF-8"))
}
