//! The requests of the control protocol that this crate makes, by their numbers in ocserv's `ctl.h`.

use std::fmt;

/// A request. Its number has never changed since ocserv 1.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Command {
    /// How the server is.
    Status = 1,
    /// All connections.
    List = 4,
    /// The connections of one user.
    User = 5,
    /// The connection with one ID.
    Id = 6,
    /// End the connections of one user.
    DisconnectUser = 7,
    /// End the connection with one ID.
    DisconnectId = 8,
    /// All logins that ocserv remembers.
    ListCookies = 12,
    /// End the connections of one user and forget her logins; ocserv 1.4.2 and newer.
    TerminateUser = 13,
    /// End one login and forget it; ocserv 1.4.2 and newer.
    TerminateSession = 15,
}

impl Command {
    /// The first byte of the request.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The first byte of the reply to it.
    #[must_use]
    pub const fn reply(self) -> u8 {
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
