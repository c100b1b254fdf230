//! Errors, divided by what the caller can do about them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Command;
use crate::safe_id::SafeIdError;

/// Why bytes are not the expected reply.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the frame does.
    #[error("reply of {have} bytes is cut short, {need} are needed")]
    Truncated {
        /// Bytes present.
        have: usize,
        /// Bytes of the whole frame, or of the header while that is incomplete.
        need: usize,
    },
    /// There are bytes after the frame.
    #[error("reply has bytes after its end")]
    TrailingBytes,
    /// The header announces more than [`crate::frame::MAX_REPLY`].
    #[error("reply announces {length} bytes, over the limit of {limit}")]
    TooLong {
        /// Announced length, in bytes.
        length: usize,
        /// Largest accepted length, in bytes.
        limit: usize,
    },
    /// The list has more than [`crate::frame::MAX_ROWS`] entries.
    #[error("reply has more than {0} entries")]
    TooManyRows(usize),
    /// The reply belongs to another request.
    #[error("reply has number {got}, expected {expected}")]
    WrongCommand {
        /// Number of the reply to the request.
        expected: u8,
        /// Number in the reply.
        got: u8,
    },
    /// The body is not a valid protobuf message.
    #[error("reply does not parse")]
    Protobuf(#[from] prost::DecodeError),
    /// A required field is absent.
    #[error("reply has no {0}")]
    Missing(&'static str),
}

/// Why a call on the control socket failed.
///
/// After [`NotReachable`](Self::NotReachable), [`Invalid`](Self::Invalid),
/// [`Unsupported`](Self::Unsupported) and [`Declined`](Self::Declined) nothing has changed in
/// ocserv. After every other error a
/// disconnect or terminate may have taken effect or not.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The socket does not exist, has no listener, or may not be opened.
    #[error("ocserv control socket {path} is not reachable")]
    NotReachable {
        /// Path of the socket.
        path: PathBuf,
        /// `NotFound`: ocserv is not running, or `use-occtl = false`. `ConnectionRefused`: the
        /// socket of an ocserv that has died. `PermissionDenied`. `WouldBlock`: ocserv has stopped
        /// accepting and its backlog is full.
        #[source]
        source: Arc<io::Error>,
    },
    /// ocserv closed the connection without a reply.
    ///
    /// The protocol has no error replies, so there are three causes: ocserv does not know the
    /// request, this process is not uid 0, or ocserv is shutting down.
    #[error(
        "ocserv closed the connection without answering {command}{}",
        if *.before_reading { ", which it had not read (is this process root?)" } else { "" }
    )]
    Refused {
        /// The request.
        command: Command,
        /// Whether the kernel reported that the request was not read, as when ocserv refuses the
        /// peer's uid. `false` is inconclusive: the close may arrive before the request.
        before_reading: bool,
    },
    /// This ocserv does not know the request: it closed the connection without a reply, and then
    /// answered `status` on the same socket.
    #[error("this ocserv does not know {command}")]
    Unsupported {
        /// The request.
        command: Command,
    },
    /// No complete reply within the timeout. The connection is closed; ocserv may still carry out
    /// the request.
    #[error("ocserv did not answer {command} within {limit:?}")]
    Timeout {
        /// The request.
        command: Command,
        /// The timeout.
        limit: Duration,
    },
    /// The reply belongs to another request.
    #[error("ocserv answered {command} with reply {got}, expected {expected}")]
    WrongReply {
        /// The request.
        command: Command,
        /// Number of the reply to the request.
        expected: u8,
        /// Number in the reply.
        got: u8,
    },
    /// The reply cannot be decoded.
    #[error("ocserv's answer to {command} is malformed")]
    Malformed {
        /// The request.
        command: Command,
        /// Why not.
        #[source]
        source: DecodeError,
    },
    /// Reading or writing failed.
    #[error("connection to ocserv failed during {command}")]
    Io {
        /// The request.
        command: Command,
        /// The kernel's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// ocserv replied that it did nothing, although what the request names is still there.
    #[error("ocserv did not carry out {command}")]
    Declined {
        /// The request.
        command: Command,
    },
    /// The argument could name something else to ocserv; nothing was sent.
    #[error("argument is not fit to be sent to ocserv: {0}")]
    Invalid(&'static str),
}

impl ControlError {
    pub(crate) fn undecodable(command: Command, error: DecodeError) -> Self {
        match error {
            DecodeError::WrongCommand { expected, got } => Self::WrongReply {
                command,
                expected,
                got,
            },
            source => Self::Malformed { command, source },
        }
    }
}

impl From<SafeIdError> for ControlError {
    fn from(_: SafeIdError) -> Self {
        Self::Invalid("not a session id")
    }
}
