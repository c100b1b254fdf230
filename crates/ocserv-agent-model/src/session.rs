//! Sessions: IDs and usage.

use std::fmt;
use std::sync::Arc;

/// ocserv's ID of a session: the pid of its worker. Reused, so it identifies a session only
/// together with its connect time: see [`SessionUid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OcservId(i32);

/// The error of a text or number that is not an ocserv session ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OcservIdError;

impl fmt::Display for OcservIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a positive decimal number below 2147483648")
    }
}

impl std::error::Error for OcservIdError {}

impl OcservId {
    /// Checks a worker's pid.
    ///
    /// # Errors
    /// When it is not positive.
    pub fn new(pid: i32) -> Result<Self, OcservIdError> {
        if pid > 0 {
            Ok(Self(pid))
        } else {
            Err(OcservIdError)
        }
    }

    /// Parses decimal digits and nothing else.
    ///
    /// # Errors
    /// When the text is anything but a positive number in a pid's range.
    pub fn parse(text: &str) -> Result<Self, OcservIdError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(OcservIdError);
        }
        text.parse().map_err(|_| OcservIdError).and_then(Self::new)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for OcservId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The permanent ID of a session, unique among all servers: agent, ocserv's ID, and the second in
/// which ocserv accepted the connection. The same session always gets the same ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionUid(Arc<str>);

impl SessionUid {
    /// Derives the ID of session `id`, connected at `connected_at` (seconds since 1970), on the
    /// server of `agent_id`.
    #[must_use]
    pub fn new(agent_id: &str, id: OcservId, connected_at: u64) -> Self {
        Self(format!("{agent_id}/{id}/{connected_at}").into())
    }

    /// Takes over an ID that was stored.
    #[must_use]
    pub fn restore(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes transferred through the tunnel, headers of the inner packets included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// From client to server: ocserv's `STATS_BYTES_IN`.
    pub received: u64,
    /// From server to client: ocserv's `STATS_BYTES_OUT`.
    pub sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_decimal_pid_is_a_session_id() {
        assert_eq!(OcservId::parse("27015").unwrap().get(), 27015);
        for bad in ["", "0", "-1", "+1", " 1", "1 ", "0x10", "2147483648", "1\n", "١"] {
            assert_eq!(OcservId::parse(bad), Err(OcservIdError), "{bad:?}");
        }
    }
}
