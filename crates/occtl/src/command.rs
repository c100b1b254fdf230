//! The requests of the control protocol that this crate sends, numbered as in ocserv's `ctl.h`.

use std::fmt;

/// A request. No number has changed since ocserv 1.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Command {
    /// Server status.
    Status = 1,
    /// All connections.
    List = 4,
    /// The connections of one user.
    User = 5,
    /// The connection with one ID.
    Id = 6,
    /// Disconnects all connections of one user.
    DisconnectUser = 7,
    /// Disconnects the connection with one ID.
    DisconnectId = 8,
    /// All cookies.
    ListCookies = 12,
    /// Disconnects all connections of one user and invalidates their cookies; ocserv 1.4.2 and
    /// newer.
    TerminateUser = 13,
    /// Invalidates one cookie and disconnects its connection; ocserv 1.4.2 and newer.
    TerminateSession = 15,
}

impl Command {
    /// Returns the first byte of the request.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the first byte of the reply.
    #[must_use]
    pub const fn reply_number(self) -> u8 {
        match self {
            Self::Status => 101,
            Self::List | Self::User | Self::Id => 104,
            Self::DisconnectUser => 105,
            Self::DisconnectId => 106,
            Self::ListCookies => 110,
            Self::TerminateUser => 111,
            Self::TerminateSession => 113,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "status",
            Self::List => "list",
            Self::User => "user",
            Self::Id => "id",
            Self::DisconnectUser => "disconnect user",
            Self::DisconnectId => "disconnect id",
            Self::ListCookies => "list cookies",
            Self::TerminateUser => "terminate user",
            Self::TerminateSession => "terminate session",
        })
    }
}
