//! The helper's half: one question, one answer, one deadline for everything.
//!
//! `std` cannot bound the connect: `UnixStream::connect` waits for as long as the agent's backlog is full. `rustix`
//! makes the socket first and gives it a send timeout, which on Linux bounds the connect of a Unix socket too
//! (`unix_stream_connect` waits for `sock_sndtimeo`). A thread or a signal that watches over the connect would be more
//! to go wrong; `rustix` is plain system calls, and the helper already has no other way to make a socket without
//! `unsafe`.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::{FrameDecoder, FrameError, MessageError, Request, Response};

/// How long an agent that has answered may take to close the connection. One that keeps to the contract closes at once;
/// its answer stands if it does not.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens there, or we may not connect.
    #[error("agent is not reachable: {0}")]
    NotReachable(#[source] io::Error),
    /// Not one byte of an answer within the budget.
    #[error("agent gave no answer within {0:?}")]
    Late(Duration),
    /// The agent said something that is not one valid answer, or broke off.
    #[error("agent {0}")]
    Protocol(#[from] ProtocolError),
    /// The question itself cannot be sent.
    #[error("request cannot be sent: {0}")]
    Request(#[source] MessageError),
}

/// How an agent that was reached failed to answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It closed the connection without a byte: it refused us, or it died.
    #[error("closed the connection without an answer")]
    Closed,
    /// It stopped in the middle: the connection ended, or the time was over.
    #[error("broke off in the middle of its answer")]
    Cut,
    /// It sent something that is not one frame.
    #[error("sent a {0}")]
    Frame(#[from] FrameError),
    /// It sent one frame that is not a response.
    #[error("sent {0}")]
    Message(#[from] MessageError),
    /// It allowed before it had taken the whole question.
    #[error("allowed without hearing the question")]
    Unasked,
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[source] io::Error),
}

impl AskError {
    /// Whether the agent is down for this login: not there, or silent for the whole budget. Half an answer is not that.
    #[must_use]
    pub const fn is_agent_down(&self) -> bool {
        match self {
            Self::NotReachable(_) | Self::Late(_) => true,
            Self::Protocol(_) | Self::Request(_) => false,
        }
    }
}

/// Asks the agent behind `socket` and waits for its answer; connect, write and read share `budget`.
///
/// [`Request::deadline_ms`] is filled in here with what is left after the connect, whatever the caller put there.
///
/// # Errors
/// See [`AskError`]. An answer with anything behind it is an error, not an answer.
pub fn ask(socket: &Path, budget: Duration, request: &Request) -> Result<Response, AskError> {
    let deadline = Deadline::start(budget);
    let mut stream = connect(socket, &deadline)?;
    let left = deadline.left()?;
    let request = Request {
        deadline_ms: u64::try_from(left.as_millis()).ok(),
        ..request.clone()
    };
    let frame = request.to_frame().map_err(AskError::Request)?;
    let sent = send(&mut stream, &frame, &deadline)?;
    let response = receive(&mut stream, &deadline)?;
    if !sent && response.allowed {
        return Err(ProtocolError::Unasked.into());
    }
    Ok(response)
}

/// A point in time that everything counts towards; nothing moves it.
struct Deadline {
    budget: Duration,
    /// `None`: further away than the clock can say.
    at: Option<Instant>,
}

impl Deadline {
    fn start(budget: Duration) -> Self {
        Self {
            budget,
            at: now().checked_add(budget),
        }
    }

    /// What is left, never zero.
    fn left(&self) -> Result<Duration, AskError> {
        let left = self
            .at
            .map_or(self.budget, |at| at.saturating_duration_since(now()));
        if left.is_zero() {
            Err(self.late())
        } else {
            Ok(left)
        }
    }

    const fn late(&self) -> AskError {
        AskError::Late(self.budget)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the blocking client is the edge: nobody above it keeps time for it"
)]
fn now() -> Instant {
    Instant::now()
}

fn connect(socket: &Path, deadline: &Deadline) -> Result<UnixStream, AskError> {
    let unreachable = |error: rustix::io::Errno| AskError::NotReachable(error.into());
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
            // The backlog stayed full for all of the send timeout.
            Err(rustix::io::Errno::AGAIN) => return Err(deadline.late()),
            Err(error) => return Err(unreachable(error)),
        }
    }
}

/// Sends the frame. `false`: the agent hung up before it took all of it; it may still have said why.
fn send(stream: &mut UnixStream, mut frame: &[u8], deadline: &Deadline) -> Result<bool, AskError> {
    while !frame.is_empty() {
        stream
            .set_write_timeout(Some(deadline.left()?))
            .map_err(ProtocolError::Io)?;
        match stream.write(frame) {
            Ok(taken) => frame = &frame[taken..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(deadline.late()),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(false),
                _ => return Err(ProtocolError::Io(error).into()),
            },
        }
    }
    Ok(true)
}

fn receive(stream: &mut UnixStream, deadline: &Deadline) -> Result<Response, AskError> {
    let mut decoder = FrameDecoder::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let read = match read_before(stream, &mut buffer, deadline) {
            // Half an answer is torn, not late: what the agent began to say may have been a deny.
            Err(AskError::Late(_)) if !decoder.is_empty() => return Err(ProtocolError::Cut.into()),
            other => other?,
        };
        if read == 0 {
            let torn = if decoder.is_empty() {
                ProtocolError::Closed
            } else {
                ProtocolError::Cut
            };
            return Err(torn.into());
        }
        if let Some(body) = decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)? {
            break body;
        }
    };
    expect_end(stream, &mut decoder, deadline)?;
    Ok(Response::from_json(&body).map_err(ProtocolError::Message)?)
}

/// Sees to it that nothing follows the answer.
fn expect_end(
    stream: &mut UnixStream,
    decoder: &mut FrameDecoder,
    deadline: &Deadline,
) -> Result<(), AskError> {
    // Tells an agent that serves its connections in a loop that we are done. It may have closed already.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    // The time may have run out just now; the answer was in it, so what is already there is still looked at.
    let left = deadline.left().unwrap_or(Duration::from_millis(1));
    let grace = Deadline::start(left.min(CLOSE_GRACE));
    let mut buffer = [0; 64];
    match read_before(stream, &mut buffer, &grace) {
        Ok(read) => {
            decoder.push(&buffer[..read]).map_err(ProtocolError::Frame)?;
            Ok(())
        }
        Err(AskError::Late(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Reads what is there, or waits for it until the deadline. A reset is an end like any other: what was said before it
/// has been read.
fn read_before(stream: &mut UnixStream, buffer: &mut [u8], deadline: &Deadline) -> Result<usize, AskError> {
    loop {
        stream
            .set_read_timeout(Some(deadline.left()?))
            .map_err(ProtocolError::Io)?;
        match stream.read(buffer) {
            Ok(read) => return Ok(read),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(deadline.late()),
                io::ErrorKind::ConnectionReset => return Ok(0),
                _ => return Err(ProtocolError::Io(error).into()),
            },
        }
    }
}
