//! A live session and its events.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    Connected, DisconnectReason, Disconnected, Event, EventId, EventKind, GroupName, OcservId, Reconciled,
    SessionStatus, SessionUid, Source, Updated, Usage, Username, VhostName,
};

use crate::time::{at_second, seconds};

/// A connected session, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// ocserv's id.
    pub id: OcservId,
    /// The user.
    pub username: Username,
    /// The permanent id.
    pub uid: SessionUid,
    /// The second in the uid: ocserv's connect time, or the login's where ocserv did not tell.
    pub uid_second: u64,
    /// When ocserv accepted the connection, in seconds since 1970; `None` until ocserv told.
    pub connected_at: Option<u64>,
    /// The user's group.
    pub group: Option<GroupName>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: String,
    /// The virtual host.
    pub vhost: Option<VhostName>,
    /// How the login was decided; `None` when no agent decided it.
    pub source: Option<Source>,
    /// The reason that the end will have.
    pub reason: DisconnectReason,
    /// The last sample of the tun device.
    pub usage: Option<Usage>,
    /// When bytes last moved, as far as samples show.
    pub last_activity: SystemTime,
    /// When ocserv last confirmed the session.
    pub confirmed_at: SystemTime,
    /// When a list was first without it.
    pub(crate) missing_since: Option<SystemTime>,
}

/// The end of a session, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) at: SystemTime,
    /// `None` where none was reported.
    pub(crate) usage: Option<Usage>,
    pub(crate) duration: Option<Duration>,
    /// Used when nobody expected the end.
    pub(crate) reason: DisconnectReason,
    pub(crate) reconciled: Option<Reconciled>,
}

impl Session {
    /// The connect time as far as it is known, in seconds since 1970.
    #[must_use]
    pub fn second(&self) -> u64 {
        self.connected_at.unwrap_or(self.uid_second)
    }

    /// Whether a connection that ocserv accepted at `connected_at` is this one.
    pub(crate) fn is_same(&self, username: &str, connected_at: u64) -> bool {
        let is_same_start = match self.connected_at {
            Some(second) => second == connected_at,
            // The second is the login's, which is later than the accept.
            None => connected_at <= self.uid_second.saturating_add(1),
        };
        is_same_start && self.username.as_str() == username
    }

    pub(crate) fn connect_event(&self, at: SystemTime, reconciled: Option<Reconciled>) -> Event {
        let connected = EventKind::Connected(Connected {
            at,
            client_ip: self.client_ip,
            vpn_ip: self.vpn_ip,
            device: self.device.clone(),
            group: self.group.clone(),
        });
        self.event(connected, reconciled)
    }

    /// Returns the disconnect event and the bytes that were not known yet.
    pub(crate) fn disconnect_event(&self, end: End) -> (Event, Usage) {
        let (usage, is_sampled) = final_usage(end.usage, self.usage);
        let known = self.usage.unwrap_or_default();
        let total = usage.unwrap_or_default();
        let traffic = Usage {
            received: total.received.saturating_sub(known.received),
            sent: total.sent.saturating_sub(known.sent),
        };
        let reason = match self.reason {
            DisconnectReason::Unspecified => end.reason,
            expected => expected,
        };
        let disconnected = EventKind::Disconnected(Disconnected {
            at: end.at,
            reason,
            usage,
            is_sampled,
            duration: end.duration,
        });
        (self.event(disconnected, end.reconciled), traffic)
    }

    /// Returns the update of a session whose usage was read at `now`, if it is known.
    pub(crate) fn update_event(&self, usage: Option<Usage>, now: SystemTime, idle_after: Duration) -> Event {
        let idle_for = now.duration_since(self.last_activity).unwrap_or_default();
        let is_idle = usage.is_some() && idle_for >= idle_after;
        let started_at = at_second(self.second());
        let updated = EventKind::Updated(Updated {
            at: now,
            usage,
            duration: now.duration_since(started_at).unwrap_or_default(),
            status: if is_idle {
                SessionStatus::Idle
            } else {
                SessionStatus::Active
            },
        });
        self.event(updated, None)
    }

    fn event(&self, kind: EventKind, reconciled: Option<Reconciled>) -> Event {
        Event {
            event_id: EventId::new(&self.uid, &kind),
            username: self.username.clone(),
            id: self.id,
            uid: self.uid.clone(),
            decision_source: self.source,
            vhost: self.vhost.clone(),
            reconciled,
            kind,
        }
    }

    /// Returns the end of a session that ended unseen, at `latest` or since it was last confirmed.
    pub(crate) fn unseen_end(&self, latest: SystemTime, reason: DisconnectReason) -> End {
        let at = latest.max(self.confirmed_at);
        End {
            at,
            usage: None,
            duration: at.duration_since(at_second(self.second())).ok(),
            reason,
            reconciled: Some(Reconciled {
                time_accuracy: at.duration_since(self.confirmed_at).unwrap_or_default(),
            }),
        }
    }

    /// Whether ocserv accepted the connection before `ocserv_started_at`.
    pub(crate) fn is_older_than(&self, ocserv_started_at: u64) -> bool {
        self.second() <= ocserv_started_at && seconds(self.confirmed_at) <= ocserv_started_at
    }
}

/// Chooses the final figures, and says whether they are the sample. ocserv reports zeros also where
/// it does not know: they count only when a sample does not contradict them.
fn final_usage(reported: Option<Usage>, sampled: Option<Usage>) -> (Option<Usage>, bool) {
    let zero = Usage::default();
    match (reported, sampled) {
        (Some(reported), _) if reported != zero => (Some(reported), false),
        (Some(_), Some(sampled)) if sampled == zero => (Some(zero), false),
        (_, Some(sampled)) => (Some(sampled), true),
        (_, None) => (None, false),
    }
}
