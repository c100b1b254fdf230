//! Connections and what identifies them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use occtl::Session;
use ocserv_agent_model::{OcservId, SessionUid, Username};

/// A session, or a login that may become one, as ocserv listed it.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// The username as ocserv lists it, which may be invalid for the agent. Bytes that are not
    /// UTF-8 are replaced.
    pub username: String,
    /// ocserv's id of the connection; reused.
    pub id: OcservId,
    /// When ocserv accepted the connection, in seconds since 1970.
    pub connected_at: u64,
    /// The permanent id of the session.
    pub uid: SessionUid,
    /// The row of ocserv's list.
    pub row: Session,
}

/// A connected session whose identity is confirmed; see
/// [`Ocserv::confirm`](crate::Ocserv::confirm).
#[derive(Debug)]
pub struct ConfirmedSession(pub(crate) LiveSession);

impl LiveSession {
    /// Returns `None` when the row has no valid id or no connect time.
    pub(crate) fn from_row(agent_id: &str, row: Session) -> Option<Self> {
        let (Ok(id), Some(connected_at)) = (OcservId::new(row.id), row.connected_at) else {
            return None;
        };
        Some(Self {
            username: String::from_utf8_lossy(&row.username_bytes).into_owned(),
            id,
            connected_at,
            uid: SessionUid::new(agent_id, id, connected_at),
            row,
        })
    }

    /// Whether both are the same connection, by uid and username.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.row.username_bytes == other.row.username_bytes
    }

    /// Whether it belongs to `username`, byte for byte.
    #[must_use]
    pub fn is_of(&self, username: &Username) -> bool {
        self.row.username_bytes == username.as_str().as_bytes()
    }

    /// When ocserv accepted the connection.
    #[must_use]
    pub fn connect_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.connected_at)
    }
}
