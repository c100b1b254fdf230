//! The helper's blocking client: one request, one response, one deadline for all of it.
//!
//! `std` cannot bound a connect: `UnixStream::connect` blocks for as long as the agent's backlog is
//! full. `rustix` creates the socket first and sets a send timeout, which on Linux also bounds the
//! connect of a Unix socket (`unix_stream_connect` waits for `sock_sndtimeo`). A watchdog thread or
//! signal would be more to go wrong.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::frame::{FrameDecoder, FrameError};
use crate::message::{MessageError, Request, Response};

/// Longest wait for the agent to close the connection after its response. The response counts also
/// if it does not.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket does not exist, has no listener, or may not be opened.
    #[error("agent is not reachable: {0}")]
    NotReachable(#[source] io::Error),
    /// No byte of a response within the timeout.
    #[error("agent gave no answer within {0:?}")]
    Timeout(Duration),
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
    /// It closed the connection without a byte: it refused the peer, or it died.
    #[error("closed the connection without an answer")]
    Closed,
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
    /// Returns whether the agent is down: not reachable, or without a byte of a response until the
    /// deadline.
    #[must_use]
    pub const fn is_agent_down(&self) -> bool {
        match self {
            Self::NotReachable(_) | Self::Timeout(_) => true,
            Self::Protocol(_) | Self::Encode(_) => false,
        }
    }
}

/// Sends `request` to the agent at `socket` and waits for its response; connect, write and read
/// share `timeout`.
///
/// Sets [`Request::deadline_ms`] to the time left after the connect.
///
/// # Errors
/// [`ClientError`]; also for a response that is followed by more bytes.
pub fn send_request(socket: &Path, timeout: Duration, request: &Request) -> Result<Response, ClientError> {
    let deadline = Deadline::after(timeout);
    let mut stream = connect(socket, &deadline)?;
    let left = deadline.left()?;
    let request = Request {
        deadline_ms: u64::try_from(left.as_millis()).ok(),
        ..request.clone()
    };
    let frame = request.to_frame().map_err(ClientError::Encode)?;
    let sent = send(&mut stream, &frame, &deadline)?;
    let response = receive(&mut stream, &deadline)?;
    if !sent && response.allowed {
        return Err(ProtocolError::EarlyAllow.into());
    }
    Ok(response)
}

/// A fixed point in time that bounds all steps of a request.
struct Deadline {
    timeout: Duration,
    /// `None`: beyond the clock's range.
    at: Option<Instant>,
}

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self {
            timeout,
            at: now().checked_add(timeout),
        }
    }

    /// The time left, never zero.
    fn left(&self) -> Result<Duration, ClientError> {
        let left = self
            .at
            .map_or(self.timeout, |at| at.saturating_duration_since(now()));
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

#[expect(
    clippy::disallowed_methods,
    reason = "the blocking client is an edge: it reads the clock itself"
)]
fn now() -> Instant {
    Instant::now()
}

fn connect(socket: &Path, deadline: &Deadline) -> Result<UnixStream, ClientError> {
    let unreachable = |error: rustix::io::Errno| ClientError::NotReachable(error.into());
    let address = SocketAddrUnix::new(socket).map_err(unreachable)?;
    let fd: OwnedFd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(unreachable)?;
    loop {
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(deadline.left()?))
            .map_err(unreachable)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd.into()),
            Err(rustix::io::Errno::INTR) => {}
            // The backlog stayed full until the send timeout.
            Err(rustix::io::Errno::AGAIN) => return Err(deadline.passed()),
            Err(error) => return Err(unreachable(error)),
        }
    }
}

/// Sends the frame. `false`: the agent closed the connection before it had read all of it, and may
/// have sent a deny.
fn send(stream: &mut UnixStream, mut frame: &[u8], deadline: &Deadline) -> Result<bool, ClientError> {
    while !frame.is_empty() {
        stream
            .set_write_timeout(Some(deadline.left()?))
            .map_err(ProtocolError::Io)?;
        match stream.write(frame) {
            Ok(taken) => frame = &frame[taken..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(deadline.passed()),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(false),
                _ => return Err(ProtocolError::Io(error).into()),
            },
        }
    }
    Ok(true)
}

fn receive(stream: &mut UnixStream, deadline: &Deadline) -> Result<Response, ClientError> {
    let mut decoder = FrameDecoder::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let read = match read_before(stream, &mut buffer, deadline) {
            // Half a response is no timeout: it may have been a deny.
            Err(ClientError::Timeout(_)) if !decoder.is_empty() => {
                return Err(ProtocolError::Truncated.into());
            }
            other => other?,
        };
        if read == 0 {
            let error = if decoder.is_empty() {
                ProtocolError::Closed
            } else {
                ProtocolError::Truncated
            };
            return Err(error.into());
        }
        if let Some(body) = decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)? {
            break body;
        }
    };
    expect_end(stream, &mut decoder, deadline)?;
    Ok(Response::from_json(&body).map_err(ProtocolError::Message)?)
}

/// Fails if anything follows the response.
fn expect_end(
    stream: &mut UnixStream,
    decoder: &mut FrameDecoder,
    deadline: &Deadline,
) -> Result<(), ClientError> {
    // The end of the request for an agent that waits for it. It may have closed already.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    // The response was in time even if the deadline has just passed: read what has arrived.
    let left = deadline.left().unwrap_or(Duration::from_millis(1));
    let grace = Deadline::after(left.min(CLOSE_GRACE));
    let mut buffer = [0; 64];
    match read_before(stream, &mut buffer, &grace) {
        Ok(read) => {
            decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)?;
            Ok(())
        }
        Err(ClientError::Timeout(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Reads, and blocks until the deadline. A reset is an end of the stream: what was sent before it
/// has been read.
fn read_before(
    stream: &mut UnixStream,
    buffer: &mut [u8],
    deadline: &Deadline,
) -> Result<usize, ClientError> {
    loop {
        stream
            .set_read_timeout(Some(deadline.left()?))
            .map_err(ProtocolError::Io)?;
        match stream.read(buffer) {
            Ok(read) => return Ok(read),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(deadline.passed()),
                io::ErrorKind::ConnectionReset => return Ok(0),
                _ => return Err(ProtocolError::Io(error).into()),
            },
        }
    }
}
