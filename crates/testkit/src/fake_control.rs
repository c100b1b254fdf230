//! ocserv's control socket without an ocserv.
//!
//! Implements `occtl/ctl.h` and `ctl.proto` of ocserv: one frame each way per connection, made of a
//! command byte, a length in host byte order and a protobuf message, encoded here independently of
//! the code under test. Replies come from a list of sessions, from recorded bytes, or with a fault.
//!
//! ```no_run
//! use testkit::fake_control::{FakeControl, FakeSession, Fault};
//!
//! let ocserv = FakeControl::start(std::path::Path::new("/tmp/occtl.sock")).unwrap();
//! ocserv.set_sessions(vec![FakeSession::connected(4711, "alice")]);
//! ocserv.set_fault(Some(Fault::Hang));
//! ```

mod behavior;
mod messages;
mod state;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use behavior::{ControlRequest, Fault, Release, Terminated};
pub use messages::{FakeLogin, FakeSession, command};

use state::{State, reply_to};

/// Longest wait for a request, and longest [`Fault::Hang`].
const IO_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest request that ocserv reads, in bytes.
const MAX_REQUEST: usize = 256;

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

    /// Replaces the sessions. Disconnect commands remove them.
    pub fn set_sessions(&self, sessions: Vec<FakeSession>) {
        let mut state = self.state();
        state.sessions = sessions;
        state.lingering.clear();
    }

    /// Returns the remaining sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<FakeSession> {
        self.state().sessions.clone()
    }

    /// Keeps disconnected sessions listed for this many lists, as ocserv does until the worker has
    /// exited.
    pub fn set_linger(&self, lists: u32) {
        self.state().linger = lists;
    }

    /// Ends a session's connect-script after this many queries for its id.
    pub fn set_script(&self, queries: u32) {
        self.state().script = Some(queries);
    }

    /// Restarts as this release, with the same sessions and logins.
    pub fn restart_as(&self, release: Release) {
        let mut state = self.state();
        state.release = release;
        state.starts += 1;
        drop(state);
        // ocserv creates its socket anew: the file has another time of change.
        let mode = fs::Permissions::from_mode(0o600);
        let _ = fs::set_permissions(&self.path, mode);
    }

    /// Replaces the logins whose cookies are valid.
    pub fn set_logins(&self, logins: Vec<FakeLogin>) {
        self.state().logins = logins;
    }

    /// Returns what `terminate session` has ended, in order.
    #[must_use]
    pub fn terminated(&self) -> Vec<Terminated> {
        self.state().terminated.clone()
    }

    /// Sets a recorded reply to a command, with its header.
    pub fn replay(&self, command: u8, reply: Vec<u8>) {
        self.state().recorded.insert(command, reply);
    }

    /// Sets or removes a fault.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Returns the received requests, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<ControlRequest> {
        self.state().requests.clone()
    }

    /// Returns the number of received requests with a command.
    #[must_use]
    pub fn count(&self, command: u8) -> usize {
        self.state()
            .requests
            .iter()
            .filter(|request| request.command == command)
            .count()
    }

    /// Returns the path of the socket.
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

/// Serves one request. Closes the connection of a peer that disconnects or sends no valid frame, as
/// ocserv does.
fn serve(mut stream: UnixStream, state: &Mutex<State>, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(IO_TIMEOUT));
    let Ok(request) = read(&mut stream) else { return };
    let (reply, fault) = {
        let mut state = lock(state);
        let reply = state.recorded.get(&request.command).cloned();
        let reply = reply.or_else(|| reply_to(&mut state, &request));
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
        Some(Fault::Slow { piece, pause }) => write_slowly(&mut stream, &reply, piece.max(1), pause),
        Some(Fault::Torn(length)) => stream.write_all(&reply[..length.min(reply.len())]),
        Some(Fault::WrongCommand(command)) => {
            reply[0] = command;
            stream.write_all(&reply)
        }
        Some(Fault::Raw(bytes)) => stream.write_all(&bytes),
    };
}

/// Keeps the connection open until the peer closes it or the socket is closed.
fn hang(stream: &mut UnixStream, stop: &AtomicBool) {
    let step = Duration::from_millis(50);
    let _ = stream.set_read_timeout(Some(step));
    let mut left = IO_TIMEOUT;
    while !stop.load(Ordering::SeqCst) && !left.is_zero() {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => left = left.saturating_sub(step),
            Err(_) => return,
        }
    }
}

fn write_slowly(stream: &mut UnixStream, reply: &[u8], piece: usize, pause: Duration) -> io::Result<()> {
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
