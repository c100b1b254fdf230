//! What happened to a session, for the portal to know.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::{DisconnectReason, GroupName, OcservId, SessionUid, Source, Usage, Username};

/// The name of an event: the same over every retry, so that a receiver can drop what it has seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Names what happened to a session: a session connects once and disconnects once, so its name
    /// and the kind of event name the event.
    #[must_use]
    pub fn new(uid: &SessionUid, kind: &EventKind) -> Self {
        let kind = match kind {
            EventKind::Connected(_) => "connect",
            EventKind::Disconnected(_) => "disconnect",
        };
        Self([uid.as_str(), "/", kind].concat().into())
    }

    /// The name.
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

/// Something that happened to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's own name.
    pub event_id: EventId,
    /// Whose session.
    pub username: Username,
    /// ocserv's number of the session.
    pub id: OcservId,
    /// The session's name for ever.
    pub uid: SessionUid,
    /// How its login was decided; `None` when this agent did not decide it.
    pub decision_source: Option<Source>,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It began.
    Connected(Connected),
    /// It ended.
    Disconnected(Disconnected),
}

/// The beginning of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// When.
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

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: DisconnectReason,
    /// What it moved; `None` when ocserv did not say.
    pub usage: Option<Usage>,
    /// How long it lived, from the TCP accept on: the login is part of it.
    pub duration: Option<Duration>,
}
