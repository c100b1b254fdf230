//! The helper's blocking client: one request, one response, one deadline for all of it.
//!
//! Reads and writes do not block: when nothing can be done, the client polls for what is left until
//! the deadline, and tries again. A connect cannot be polled for on a Unix socket: while the
//! agent's backlog is full it blocks, in slices, because a socket's own timeout is coarse: the
//! longer it is, the later it fires. A watchdog thread or signal would be more to go wrong.

use std::{io, os::fd::OwnedFd, path::Path, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt},
    time::{ClockId, clock_gettime},
};

use crate::frame::{FrameDecoder, FrameError};
use crate::message::{MessageError, Request, Response};

/// Longest wait for the agent to close the connection after its response. The response counts also
/// if it does not.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Longest wait of one attempt to connect while the backlog is full.
const CONNECT_SLICE: Duration = Duration::from_millis(50);
/// Time between two attempts to connect while there is no listener.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Longest poll: more than any deadline, and less than the system call accepts.
const MAX_POLL: Duration = Duration::from_hours(24);

/// The clock of deadlines. It also runs while the system is suspended, and every process reads the
/// same time.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;
/// Whether the agent reads the same clock.
const CLOCK_IS_SHARED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket does not exist, has no listener, or may not be opened.
    #[error("agent is not reachable: {0}")]
    NotReachable(#[source] io::Error),
    /// No byte of a response within the timeout, or an allow after it.
    #[error("agent gave no answer within {0:?}")]
    Timeout(Duration),
    /// The agent closed the connection without a byte: it died, or cannot serve.
    #[error("agent closed the connection without an answer")]
    Closed,
    /// The agent sent something other than one valid response.
    #[error("agent {0}")]
    Protocol(#[from] ProtocolError),
    /// The request cannot be encoded.
    #[error("request cannot be sent: {0}")]
    Encode(#[source] MessageError),
}

/// How the agent broke the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The connection ended, or the deadline passed, in the middle of a response.
    #[error("sent a truncated answer")]
    Truncated,
    /// It sent something other than one frame.
    #[error("sent a {0}")]
    Frame(#[from] FrameError),
    /// It sent a frame that is not a response.
    #[error("sent {0}")]
    Message(#[from] MessageError),
    /// It allowed before it had read the whole request.
    #[error("allowed before it had read the request")]
    EarlyAllow,
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[source] io::Error),
}

impl ClientError {
    /// Returns whether the agent is down: it is not reachable, or gave no answer at all until the
    /// deadline or until it closed the connection. Half an answer may have been a deny.
    #[must_use]
    pub const fn is_agent_down(&self) -> bool {
        match self {
            Self::NotReachable(_) | Self::Timeout(_) | Self::Closed => true,
            Self::Protocol(_) | Self::Encode(_) => false,
        }
    }
}

/// Sends `request` to the agent at `socket` and waits for its response; connect, write and read
/// share `timeout`.
///
/// Sets [`Request::deadline_ms`] to the time left after the connect, and
/// [`Request::answer_by_boottime_ms`] to the deadline. An allow after the deadline is a
/// [`ClientError::Timeout`]; a deny counts at any time.
///
/// # Errors
/// [`ClientError`]; also for a response that is followed by more bytes.
pub fn send_request(socket: &Path, timeout: Duration, request: &Request) -> Result<Response, ClientError> {
    exchange(socket, &Deadline::after(timeout), request, false)
}

/// As [`send_request`], and tries to connect until the deadline while the socket does not exist or
/// has no listener: an agent that is being restarted gets the request.
///
/// # Errors
/// As [`send_request`].
pub fn send_request_with_retry(
    socket: &Path,
    timeout: Duration,
    request: &Request,
) -> Result<Response, ClientError> {
    exchange(socket, &Deadline::after(timeout), request, true)
}

/// Returns the time since the system's start on the clock of [`Request::answer_by_boottime_ms`];
/// `None` on systems without that clock.
#[must_use]
pub fn boottime() -> Option<Duration> {
    CLOCK_IS_SHARED.then(now)
}

fn exchange(
    socket: &Path,
    deadline: &Deadline,
    request: &Request,
    retry: bool,
) -> Result<Response, ClientError> {
    let stream = connect(socket, deadline, retry)?;
    let left = deadline.left()?;
    let request = Request {
        deadline_ms: u64::try_from(left.as_millis()).ok(),
        answer_by_boottime_ms: boottime().and_then(|_| u64::try_from(deadline.at.as_millis()).ok()),
        ..request.clone()
    };
    let frame = request.to_frame().map_err(ClientError::Encode)?;
    let sent = send(&stream, &frame, deadline)?;
    let response = receive(&stream, deadline)?;
    if !sent && response.allowed {
        return Err(ProtocolError::EarlyAllow.into());
    }
    Ok(response)
}

/// A fixed point in time that bounds all steps of a request.
struct Deadline {
    timeout: Duration,
    /// On [`CLOCK`].
    at: Duration,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self {
            timeout,
            at: now().saturating_add(timeout),
        }
    }

    /// The time left, never zero.
    fn left(&self) -> Result<Duration, ClientError> {
        let left = self.at.saturating_sub(now());
        if left.is_zero() {
            Err(self.passed())
        } else {
            Ok(left)
        }
    }

    const fn passed(&self) -> ClientError {
        ClientError::Timeout(self.timeout)
    }
}

fn now() -> Duration {
    // The time since the start is never negative.
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

fn connect(socket: &Path, deadline: &Deadline, retry: bool) -> Result<OwnedFd, ClientError> {
    let unreachable = |error: Errno| ClientError::NotReachable(error.into());
    let address = SocketAddrUnix::new(socket).map_err(unreachable)?;
    let flags = SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(unreachable)?;
    let mut left = deadline.left()?;
    loop {
        let slice = Some(left.min(CONNECT_SLICE));
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, slice).map_err(unreachable)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            // The backlog stayed full for the slice.
            Err(Errno::INTR | Errno::AGAIN) => left = deadline.left()?,
            Err(error @ (Errno::NOENT | Errno::CONNREFUSED)) if retry => {
                left = deadline.left().map_err(|_| unreachable(error))?;
                thread::sleep(left.min(RETRY_PAUSE));
            }
            Err(error) => return Err(unreachable(error)),
        }
    }
}

/// Sends the frame. `false`: the agent closed the connection before it had read all of it, and may
/// have sent a deny.
fn send(stream: &OwnedFd, mut frame: &[u8], deadline: &Deadline) -> Result<bool, ClientError> {
    while !frame.is_empty() {
        match rustix::net::send(stream, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(taken) => frame = &frame[taken..],
            Err(Errno::AGAIN) => wait(stream, PollFlags::OUT, deadline.left()?)?,
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(true)
}

fn receive(stream: &OwnedFd, deadline: &Deadline) -> Result<Response, ClientError> {
    let mut decoder = FrameDecoder::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.left();
        let read = match read(stream, &mut buffer, left.is_err()) {
            Ok(read) => read,
            // Half a response is no timeout: it may have been a deny.
            Err(Errno::AGAIN) if left.is_err() && !decoder.is_empty() => {
                return Err(ProtocolError::Truncated.into());
            }
            Err(Errno::AGAIN) => {
                wait(stream, PollFlags::IN, left?)?;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        if read == 0 && decoder.is_empty() {
            return Err(ClientError::Closed);
        }
        let body = decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)?;
        let Some(body) = body else {
            if read == 0 || left.is_err() {
                return Err(ProtocolError::Truncated.into());
            }
            continue;
        };
        // Looked at again after the last byte.
        let in_time = left.and_then(|_| deadline.left());
        if let Ok(left) = in_time {
            expect_end(stream, &mut decoder, left)?;
        }
        let response = Response::from_json(&body).map_err(ProtocolError::Message)?;
        return if response.allowed {
            in_time.map(|_| response)
        } else {
            Ok(response)
        };
    }
}

/// Fails if anything follows the response.
fn expect_end(stream: &OwnedFd, decoder: &mut FrameDecoder, left: Duration) -> Result<(), ClientError> {
    // The end of the request for an agent that waits for it. It may have closed already.
    let _ = rustix::net::shutdown(stream, Shutdown::Write);
    let grace = Deadline::after(left.min(CLOSE_GRACE));
    let mut buffer = [0; 64];
    loop {
        match read(stream, &mut buffer, false) {
            Ok(read) => {
                decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)?;
                return Ok(());
            }
            Err(Errno::AGAIN) => match grace.left() {
                Ok(left) => wait(stream, PollFlags::IN, left)?,
                Err(_) => return Ok(()),
            },
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Reads what has arrived. A reset is an end of the stream: what was sent before it has been read.
/// With `peek` the bytes stay unread, so that the agent sees that its response was not taken.
fn read(stream: &OwnedFd, buffer: &mut [u8], peek: bool) -> Result<usize, Errno> {
    let peek = if peek { RecvFlags::PEEK } else { RecvFlags::empty() };
    match rustix::net::recv(stream, buffer, RecvFlags::DONTWAIT | peek) {
        Ok((_, read)) => Ok(read),
        Err(Errno::CONNRESET) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Waits for one of `events` for at most `left`, or until a signal.
fn wait(stream: &OwnedFd, events: PollFlags, left: Duration) -> Result<(), ClientError> {
    let left = Timespec::try_from(left.min(MAX_POLL)).unwrap_or_default();
    match rustix::event::poll(&mut [PollFd::new(stream, events)], Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: Errno) -> ClientError {
    ProtocolError::Io(error.into()).into()
}
