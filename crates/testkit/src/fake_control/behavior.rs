//! How the fake differs from an ocserv 1.1.6 that works, and what it has received.

use std::time::Duration;

/// A fault in every reply, until it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed without a reply, as ocserv does with peers that are not root and
    /// with unknown commands.
    Refuse,
    /// No reply is sent, and the connection stays open.
    Hang,
    /// The reply is sent in pieces of this many bytes, with a pause after each.
    Slow {
        /// The size of a piece.
        piece: usize,
        /// The pause after each.
        pause: Duration,
    },
    /// Only this many bytes of the reply are sent before the connection is closed.
    Torn(usize),
    /// The reply has this command.
    WrongCommand(u8),
    /// These bytes are sent instead.
    Raw(Vec<u8>),
}

/// A release of ocserv, where releases differ on the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Release {
    /// Debian 12's.
    #[default]
    V1_1_6,
    /// The first that sends the time of the login.
    V1_4_1,
    /// The first that knows `terminate`.
    V1_4_2,
}

impl Release {
    /// Returns the release that the given version of ocserv behaves like.
    #[must_use]
    pub fn of(major: u32, minor: u32, patch: u32) -> Self {
        match (major, minor, patch) {
            (1, 4, 1) => Self::V1_4_1,
            version if version >= (1, 4, 2) => Self::V1_4_2,
            _ => Self::V1_1_6,
        }
    }
}

/// A login that was ended by `terminate session`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// Its safe id.
    pub safe_id: String,
    /// Whether it had a connection, which then reports no byte counts.
    pub connected: bool,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// Its command; see [`command`](super::command).
    pub command: u8,
    /// Its message.
    pub payload: Vec<u8>,
}
