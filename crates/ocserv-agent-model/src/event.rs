//! Session events, as reported to the portal.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::decision::Source;
use crate::disconnect_reason::DisconnectReason;
use crate::name::{GroupName, Username, VhostName};
use crate::session::{OcservId, SessionUid, Usage};

/// The ID of an event: the same over every retry, so that a receiver can drop duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Derives the ID from the session's and the kind: a session connects once, disconnects once,
    /// and is sampled at most once a second.
    #[must_use]
    pub fn new(uid: &SessionUid, kind: &EventKind) -> Self {
        match kind {
            EventKind::Connected(_) => Self(format!("{uid}/connect").into()),
            EventKind::Disconnected(_) => Self(format!("{uid}/disconnect").into()),
            EventKind::Updated(update) => {
                let since_epoch = update.at.duration_since(UNIX_EPOCH).unwrap_or_default();
                Self(format!("{uid}/update/{}", since_epoch.as_secs()).into())
            }
        }
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
    /// Set when no script reported the event, and a comparison with ocserv's list found it.
    pub reconciled: Option<Reconciled>,
    /// Kind and payload.
    pub kind: EventKind,
}

impl Event {
    /// Whether it is an update: the session's next event makes it unnecessary.
    #[must_use]
    pub const fn is_update(&self) -> bool {
        matches!(self.kind, EventKind::Updated(_))
    }
}

/// How an event was found that no script reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconciled {
    /// The event took place at its time or at most this long before it.
    pub time_accuracy: Duration,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The session connected.
    Connected(Connected),
    /// The session disconnected.
    Disconnected(Disconnected),
    /// The session is connected, and its usage was sampled.
    Updated(Updated),
}

/// The payload of a connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// When it connected.
    pub at: SystemTime,
    /// The client's address; `None` when it is unknown.
    pub client_ip: Option<IpAddr>,
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
    /// Bytes transferred; `None` when they are unknown.
    pub usage: Option<Usage>,
    /// Whether `usage` is the last sample of the tun device: ocserv reported no count.
    pub is_sampled: bool,
    /// Duration since the TCP accept, so the login included.
    pub duration: Option<Duration>,
}

/// The payload of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// When the session was sampled.
    pub at: SystemTime,
    /// Bytes transferred so far, as the tun device counted them; `None` when they are unknown.
    pub usage: Option<Usage>,
    /// Duration since the TCP accept.
    pub duration: Duration,
    /// Whether bytes moved lately.
    pub status: SessionStatus,
}

/// Whether a session is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionStatus {
    /// Bytes moved lately, or it is unknown.
    Active,
    /// No byte moved for some time.
    Idle,
}
