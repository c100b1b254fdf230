//! An agent for one login, and a run of the real helper with a bound on its time.

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

/// No run takes this long unless it hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The helper as built for this test.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_vpn-auth");

/// A listening agent that serves one connection on a thread of its own.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
    thread: JoinHandle<Request>,
}

impl Agent {
    /// Hears one question, then does as `act` says; the connection closes when `act` is over.
    pub(crate) fn new(act: impl FnOnce(&mut UnixStream) + Send + 'static) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let listener = UnixListener::bind(directory.path().join("ipc.sock")).expect("listener");
        let thread = thread::spawn(move || {
            let mut peer = listener.accept().expect("connection").0;
            let (mut decoder, mut buffer) = (FrameDecoder::new(), [0; 512]);
            let body = loop {
                let read = peer.read(&mut buffer).expect("question");
                if let Some(body) = decoder.push(&buffer[..read]).expect("one frame") {
                    break body;
                }
            };
            act(&mut peer);
            Request::from_json(&body).expect("request")
        });
        Self { directory, thread }
    }

    /// Says `bytes` in one piece.
    pub(crate) fn saying(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        use std::io::Write;
        // The helper may hang up on what it does not like.
        Self::new(move |peer| drop(peer.write_all(bytes.as_ref())))
    }

    /// Hears the question, says nothing, waits until the helper is gone.
    pub(crate) fn silent() -> Self {
        Self::new(|peer| drop(peer.read_to_end(&mut Vec::new())))
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("ipc.sock")
    }

    /// The question that it heard.
    pub(crate) fn heard(self) -> Request {
        self.thread.join().expect("agent")
    }
}

/// The helper, told of alice's login, with nothing else in its environment.
pub(crate) fn helper(socket: impl Into<PathBuf>, flags: &str) -> Command {
    let mut command = Command::new(HELPER);
    command
        .arg("--socket")
        .arg(socket.into())
        .args(flags.split_whitespace());
    as_ocserv(&mut command);
    command
}

/// Gives `command` the environment and the streams of a script of ocserv's.
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

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Output {
    finish(command.spawn().expect("spawn"))
}

/// Waits for the end; a run that hangs is killed and fails the test.
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
