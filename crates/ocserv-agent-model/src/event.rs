//! Session events, as reported to the portal.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::decision::Source;
use crate::disconnect_reason::DisconnectReason;
use crate::name::{GroupName, Username, VhostName};
use crate::session::{OcservId, SessionUid, Usage};

/// The ID of an event: the same over every retry, so that a receiver can drop duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Derives the ID from the session's and the kind: a session connects once and disconnects
    /// once.
    #[must_use]
    pub fn new(uid: &SessionUid, kind: &EventKind) -> Self {
        let kind = match kind {
            EventKind::Connected(_) => "connect",
            EventKind::Disconnected(_) => "disconnect",
        };
        Self([uid.as_str(), "/", kind].concat().into())
    }

    /// Returns the ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's ID.
    pub event_id: EventId,
    /// The session's user.
    pub username: Username,
    /// ocserv's ID of the session.
    pub id: OcservId,
    /// The session's permanent ID.
    pub uid: SessionUid,
    /// How its login was decided; `None` when this agent did not decide it.
    pub decision_source: Option<Source>,
    /// The virtual host that the client connected to; `None` when it is unknown.
    pub vhost: Option<VhostName>,
    /// Kind and payload.
    pub kind: EventKind,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The session connected.
    Connected(Connected),
    /// The session disconnected.
    Disconnected(Disconnected),
}

/// The payload of a connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// When it connected.
    pub at: SystemTime,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: String,
    /// The user's group.
    pub group: Option<GroupName>,
}

/// The payload of a disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// When it disconnected.
    pub at: SystemTime,
    /// Why it disconnected.
    pub reason: DisconnectReason,
    /// Bytes transferred; `None` when ocserv reported none.
    pub usage: Option<Usage>,
    /// Duration since the TCP accept, so the login included.
    pub duration: Option<Duration>,
}
