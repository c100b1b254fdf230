//! ocserv's control socket without an ocserv.
//!
//! Speaks what `occtl/ctl.h` and `ctl.proto` of ocserv say: one frame each way per connection, made of a command byte, a
//! length in the host's order and a protobuf message, which is encoded here independently of the code under test.
//! Answers from a list of sessions, from recorded bytes, or wrongly.
//!
//! ```no_run
//! use testkit::fake_control::{FakeControl, FakeSession, Fault};
//!
//! let ocserv = FakeControl::start(std::path::Path::new("/tmp/occtl.sock")).unwrap();
//! ocserv.set_sessions(vec![FakeSession::connected(4711, "alice")]);
//! ocserv.set_fault(Some(Fault::Hang));
//! ```

mod messages;
mod state;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use messages::{FakeLogin, FakeSession, command};

use state::{State, answer};

/// How long a peer may take with its request, and how long [`Fault::Hang`] lasts at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// ocserv reads no more than this of a request.
const MAX_REQUEST: usize = 256;

/// What goes wrong with every reply until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed without a reply: as ocserv does with who is not root, and with unknown commands.
    Refuse,
    /// Nothing comes, and the connection stays.
    Hang,
    /// The reply comes in pieces of this many bytes with a pause after each.
    Slow {
        /// The size of a piece.
        piece: usize,
        /// The pause after each.
        pause: Duration,
    },
    /// Only so many bytes of the reply come, then the connection is closed.
    Torn(usize),
    /// The reply bears this command.
    WrongCommand(u8),
    /// These bytes come instead.
    Raw(Vec<u8>),
}

/// Which ocserv it plays, by what the releases differ in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Release {
    /// Debian 12's.
    #[default]
    V1_1_6,
    /// The first that tells when a login began.
    V1_4_1,
    /// The first that knows `terminate`.
    V1_4_2,
}

/// A login that was ended by `terminate session`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// Which.
    pub safe_id: String,
    /// Whether a connection used it, which then reports no byte counts.
    pub connected: bool,
}

/// A request that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// Its command; see [`command`].
    pub command: u8,
    /// Its message.
    pub payload: Vec<u8>,
}

/// The socket. Dropping it closes it and removes its file.
pub struct FakeControl {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl FakeControl {
    /// Listens on `path`, with no sessions.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (Arc::clone(&state), Arc::clone(&stop));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (state, stop) = (Arc::clone(&served), Arc::clone(&stopped));
                thread::spawn(move || serve(stream, &state, &stop));
            }
        });
        Ok(Self {
            path: path.to_owned(),
            state,
            stop,
        })
    }

    /// Who is there from now on. Disconnect commands take sessions out.
    pub fn set_sessions(&self, sessions: Vec<FakeSession>) {
        let mut state = self.state();
        state.sessions = sessions;
        state.leaving.clear();
    }

    /// Who is still there.
    #[must_use]
    pub fn sessions(&self) -> Vec<FakeSession> {
        self.state().sessions.clone()
    }

    /// Sessions that are told to end stay listed until the list has been asked for so many times, as those of a real
    /// ocserv stay until their worker is gone.
    pub fn set_linger(&self, looks: u32) {
        self.state().linger = looks;
    }

    /// Sessions whose connect-script runs are connected once each has been asked for by its number so many times.
    pub fn set_script(&self, looks: u32) {
        self.state().script = Some(looks);
    }

    /// Starts anew as this release, with the sessions and logins that are there.
    pub fn restart_as(&self, release: Release) {
        let mut state = self.state();
        state.release = release;
        state.starts += 1;
    }

    /// Which logins are remembered from now on.
    pub fn set_logins(&self, logins: Vec<FakeLogin>) {
        self.state().logins = logins;
    }

    /// What was ended by `terminate session`, in order.
    #[must_use]
    pub fn terminated(&self) -> Vec<Terminated> {
        self.state().terminated.clone()
    }

    /// Answers a command with these bytes, a whole recorded reply with its header, from now on.
    pub fn replay(&self, command: u8, reply: Vec<u8>) {
        self.state().recorded.insert(command, reply);
    }

    /// What goes wrong from now on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// What has arrived, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<ControlRequest> {
        self.state().requests.clone()
    }

    /// How many requests with a command have arrived.
    #[must_use]
    pub fn count(&self, command: u8) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|request| request.command == command)
            .count()
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for FakeControl {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, one reply. A peer that goes away or talks nonsense gets what it gets from ocserv: the end.
fn serve(mut stream: UnixStream, state: &Mutex<State>, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let Ok(request) = read(&mut stream) else { return };
    let (reply, fault) = {
        let mut state = lock(state);
        let reply = state.recorded.get(&request.command).cloned();
        let reply = reply.or_else(|| answer(&mut state, &request));
        state.requests.push(request);
        (reply, state.fault.clone())
    };
    let Some(mut reply) = reply else { return };
    let _ = match fault {
        None => stream.write_all(&reply),
        Some(Fault::Refuse) => return,
        Some(Fault::Hang) => {
            hang(&mut stream, stop);
            return;
        }
        Some(Fault::Slow { piece, pause }) => slowly(&mut stream, &reply, piece.max(1), pause),
        Some(Fault::Torn(length)) => stream.write_all(&reply[..length.min(reply.len())]),
        Some(Fault::WrongCommand(command)) => {
            reply[0] = command;
            stream.write_all(&reply)
        }
        Some(Fault::Raw(bytes)) => stream.write_all(&bytes),
    };
}

/// Holds the connection until the peer gives up or the socket is closed.
fn hang(stream: &mut UnixStream, stop: &AtomicBool) {
    let step = Duration::from_millis(50);
    let _ = stream.set_read_timeout(Some(step));
    let mut left = PATIENCE;
    while !stop.load(Ordering::SeqCst) && !left.is_zero() {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => left = left.saturating_sub(step),
            Err(_) => return,
        }
    }
}

fn slowly(stream: &mut UnixStream, reply: &[u8], piece: usize, pause: Duration) -> io::Result<()> {
    for part in reply.chunks(piece) {
        stream.write_all(part)?;
        thread::sleep(pause);
    }
    Ok(())
}

fn read(stream: &mut UnixStream) -> io::Result<ControlRequest> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let [command, length @ ..] = header;
    let length = u32::from_ne_bytes(length) as usize;
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(ControlRequest { command, payload })
}
