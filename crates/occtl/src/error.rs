//! What can go wrong, told apart by what the caller may do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::command::Command;
use crate::safe_id::SafeIdError;

/// Why bytes are not the reply that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the frame does.
    #[error("reply of {have} bytes is cut short, {need} are needed")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes of the whole frame, or of its header if that is not whole.
        need: usize,
    },
    /// There are bytes after the frame.
    #[error("reply has bytes after its end")]
    TrailingBytes,
    /// The header announces more than [`crate::frame::MAX_REPLY`].
    #[error("reply announces {length} bytes, over the limit of {limit}")]
    TooLong {
        /// What the header says.
        length: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The list has more than [`crate::frame::MAX_ROWS`] entries.
    #[error("reply has more than {0} entries")]
    TooManyRows(usize),
    /// The reply is of another kind.
    #[error("reply has number {got}, expected {expected}")]
    WrongCommand {
        /// The number of the reply to what was asked.
        expected: u8,
        /// The number in the reply.
        got: u8,
    },
    /// The body is not the protobuf message that it should be.
    #[error("reply does not parse")]
    Protobuf(#[from] prost::DecodeError),
    /// A field is absent without which the entry means nothing.
    #[error("reply has no {0}")]
    Missing(&'static str),
}

/// Why a call on the control socket gave no answer.
///
/// For a call that changes something: [`NotReachable`](Self::NotReachable), [`Invalid`](Self::Invalid) and
/// [`Unsupported`](Self::Unsupported) mean that nothing happened; after every other error it may have happened or not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no socket, nobody listens on it, or the path may not be opened.
    #[error("ocserv control socket {path} is not reachable")]
    NotReachable {
        /// The socket.
        path: PathBuf,
        /// Not found: no such ocserv, or `use-occtl = false`. Connection refused: a dead one's socket. Permission denied.
        /// Would block: ocserv has stopped accepting and its queue is full.
        #[source]
        source: io::Error,
    },
    /// ocserv closed the connection without an answer.
    ///
    /// The protocol has no refusals, so there are three causes: ocserv does not know the request, this process is not uid 0,
    /// or ocserv is going down.
    #[error(
        "ocserv closed the connection without answering {command}{}",
        if *.before_reading { ", which it had not read (is this process root?)" } else { "" }
    )]
    Refused {
        /// What was asked.
        command: Command,
        /// The kernel says that the request was not read, as when the peer's uid is refused. `false` says nothing either
        /// way: a close may overtake the request.
        before_reading: bool,
    },
    /// This ocserv does not know the request: it closed the connection without an answer, and then answered `status` on the
    /// same socket.
    #[error("this ocserv does not know {command}")]
    Unsupported {
        /// What was asked.
        command: Command,
    },
    /// No whole answer within the limit. The connection is closed; ocserv may still do what was asked.
    #[error("ocserv did not answer {command} within {limit:?}")]
    Timeout {
        /// What was asked.
        command: Command,
        /// The limit that was set.
        limit: Duration,
    },
    /// Another answer than to what was asked.
    #[error("ocserv answered {command} with reply {got}, expected {expected}")]
    WrongReply {
        /// What was asked.
        command: Command,
        /// The number of the reply to it.
        expected: u8,
        /// The number in the reply.
        got: u8,
    },
    /// The answer cannot be understood.
    #[error("ocserv's answer to {command} is malformed")]
    Malformed {
        /// What was asked.
        command: Command,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The kernel failed the connection.
    #[error("connection to ocserv failed during {command}")]
    Io {
        /// What was asked.
        command: Command,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The argument cannot be sent safely; nothing was sent.
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
