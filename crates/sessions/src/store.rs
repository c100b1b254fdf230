//! The store of logins in progress and live sessions, by ocserv's id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocserv_agent_model::{
    Connected, DisconnectReason, Disconnected, Event, EventId, EventKind, Login, OcservId, SessionUid,
    Source, Usage, Username, VhostName,
};

use crate::time::{end_time, seconds};

/// Most logins and sessions in the store: above ocserv's practical limits, so that only entries
/// whose end was never reported are evicted.
const MAX_SESSIONS: usize = 16_384;

/// A login in progress, between its request and its response. Settle it with
/// [`SessionStore::session_started`], [`SessionStore::answer_undelivered`] or
/// [`SessionStore::login_denied`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a login that is not settled stays in progress"]
pub struct LoginHandle {
    id: OcservId,
    sequence: u64,
}

/// A session that was connected before this agent started, as ocserv lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingSession {
    /// ocserv's id of the session.
    pub id: OcservId,
    /// The session's user.
    pub username: Username,
    /// When ocserv accepted the connection, in seconds since 1970.
    pub connected_at: u64,
    /// The virtual host; `None` when it is unknown.
    pub vhost: Option<VhostName>,
}

/// The report of a disconnect-script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisconnectReport {
    /// ocserv's id of the session.
    pub id: OcservId,
    /// The session's user.
    pub username: Username,
    /// Bytes transferred; `None` when ocserv reported none.
    pub usage: Option<Usage>,
    /// Duration since the TCP accept.
    pub duration: Option<Duration>,
    /// The virtual host; `None` when it is unknown.
    pub vhost: Option<VhostName>,
}

/// Holds the logins in progress and the live sessions of one server; evicts the oldest when full.
#[derive(Debug)]
pub struct SessionStore {
    agent_id: String,
    max: usize,
    /// The latest entry's number; orders entries by age and identifies the login of a handle.
    sequence: u64,
    by_id: HashMap<OcservId, Entry>,
    /// The ids of all entries, the oldest first.
    by_age: BTreeMap<u64, OcservId>,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    username: Username,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The login waits for its response. The report of its end may come first.
    AwaitingAnswer {
        login: Arc<Login>,
        arrived: SystemTime,
        ended: Option<(DisconnectReport, SystemTime)>,
        /// Set when ocserv lists the session before its allow is confirmed.
        reason: DisconnectReason,
    },
    Live {
        uid: SessionUid,
        /// Seconds since 1970.
        connected_at: u64,
        source: Option<Source>,
        vhost: Option<VhostName>,
        reason: DisconnectReason,
    },
    /// Allowed, but its helper exited before it read the allow.
    Undelivered,
}

impl SessionStore {
    /// Creates an empty store for the server of `agent_id`.
    #[must_use]
    pub fn new(agent_id: &str) -> Self {
        Self::with_max(agent_id, MAX_SESSIONS)
    }

    fn with_max(agent_id: &str, max: usize) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            max,
            sequence: 0,
            by_id: HashMap::new(),
            by_age: BTreeMap::new(),
        }
    }

    /// Adds a session that was connected before this agent started, so that it keeps its uid. Keeps
    /// an entry with the same id.
    pub fn import(&mut self, existing: ExistingSession) {
        if self.by_id.contains_key(&existing.id) {
            return;
        }
        let state = State::Live {
            uid: SessionUid::new(&self.agent_id, existing.id, existing.connected_at),
            connected_at: existing.connected_at,
            source: None,
            vhost: existing.vhost,
            reason: DisconnectReason::Unspecified,
        };
        self.insert(existing.id, existing.username, state);
    }

    /// Adds a login in progress. Returns the disconnect event of a session with the same id, if
    /// there is one, whose disconnect-script never reported.
    pub fn login_started(&mut self, login: &Arc<Login>, now: SystemTime) -> (LoginHandle, Option<Event>) {
        let superseded = self
            .remove(login.id)
            .and_then(|entry| entry.state.end(&entry.username, login.id, now, None, None));
        let state = State::AwaitingAnswer {
            login: Arc::clone(login),
            arrived: now,
            ended: None,
            reason: DisconnectReason::Unspecified,
        };
        let sequence = self.insert(login.id, login.username.clone(), state);
        let handle = LoginHandle {
            id: login.id,
            sequence,
        };
        (handle, superseded)
    }

    /// Removes a denied login: ocserv reports no end of it.
    pub fn login_denied(&mut self, handle: LoginHandle) {
        self.take(handle);
    }

    /// Marks a login whose helper did not read its allow. ocserv may still report an end of it,
    /// since it runs the disconnect-script when the connect-script was killed by a signal. There is
    /// no event of either.
    pub fn answer_undelivered(&mut self, handle: LoginHandle) {
        // No further report follows an end that was reported already.
        if let Some(Entry {
            username,
            state: State::AwaitingAnswer {
                login, ended: None, ..
            },
            ..
        }) = self.take(handle)
        {
            self.insert(login.id, username, State::Undelivered);
        }
    }

    /// Starts the session of a login whose helper read its allow. `connected_at` is ocserv's
    /// connect time, in seconds since 1970, where it is known; else the uid has the login's time.
    /// Returns the events in order.
    #[must_use]
    pub fn session_started(
        &mut self,
        handle: LoginHandle,
        source: Source,
        connected_at: Option<u64>,
    ) -> Vec<Event> {
        let Some(Entry {
            username,
            state:
                State::AwaitingAnswer {
                    login,
                    arrived,
                    ended,
                    reason,
                },
            ..
        }) = self.take(handle)
        else {
            return Vec::new();
        };
        let second = connected_at.unwrap_or_else(|| seconds(arrived));
        let uid = SessionUid::new(&self.agent_id, login.id, second);
        let connected = EventKind::Connected(Connected {
            at: connected_at.map_or(arrived, |second| UNIX_EPOCH + Duration::from_secs(second)),
            client_ip: Some(login.client_ip),
            vpn_ip: login.vpn_ip,
            device: login.device.clone(),
            group: login.group.clone(),
        });
        let vhost = login.vhost.clone();
        let mut events = vec![event(
            &username,
            login.id,
            &uid,
            Some(source),
            vhost.clone(),
            connected,
        )];
        let state = State::Live {
            uid,
            connected_at: second,
            source: Some(source),
            vhost,
            reason,
        };
        match ended {
            Some((report, at)) => {
                events.extend(state.end(&username, login.id, at, report.usage, report.duration));
            }
            None => {
                self.insert(login.id, username, state);
            }
        }
        events
    }

    /// Removes a session whose disconnect-script reports at `now`. Returns the events in order:
    /// none while the login is in progress ([`Self::session_started`] will return both) and none
    /// for a login whose allow was not read.
    #[must_use]
    pub fn session_ended(&mut self, report: DisconnectReport, now: SystemTime) -> Vec<Event> {
        let Some(entry) = self.by_id.get_mut(&report.id) else {
            return vec![self.unknown_ended(&report, now)];
        };
        let is_same_user = entry.username == report.username;
        match &mut entry.state {
            State::AwaitingAnswer { ended, .. } if is_same_user => {
                *ended = Some((report, now));
                Vec::new()
            }
            // A late report about a session that is no longer stored; the login is kept.
            State::AwaitingAnswer { .. } => vec![self.unknown_ended(&report, now)],
            State::Live { .. } | State::Undelivered if is_same_user => {
                let ended = self.remove(report.id).and_then(|entry| {
                    entry
                        .state
                        .end(&entry.username, report.id, now, report.usage, report.duration)
                });
                ended.into_iter().collect()
            }
            // The stored session's disconnect-script never reported, and the id was reused.
            State::Live { .. } | State::Undelivered => {
                let superseded = self
                    .remove(report.id)
                    .and_then(|entry| entry.state.end(&entry.username, report.id, now, None, None));
                let ended = self.unknown_ended(&report, now);
                superseded.into_iter().chain([ended]).collect()
            }
        }
    }

    /// Returns the disconnect event of a session that is not stored; its uid comes from the
    /// duration.
    fn unknown_ended(&self, report: &DisconnectReport, now: SystemTime) -> Event {
        let connected_at = report
            .duration
            .and_then(|duration| now.checked_sub(duration))
            .unwrap_or(now);
        let uid = SessionUid::new(&self.agent_id, report.id, seconds(connected_at));
        let disconnected = EventKind::Disconnected(Disconnected {
            at: now,
            reason: DisconnectReason::Unspecified,
            usage: report.usage,
            is_sampled: false,
            duration: report.duration,
        });
        event(
            &report.username,
            report.id,
            &uid,
            None,
            report.vhost.clone(),
            disconnected,
        )
    }

    /// Sets the reason of the next disconnect event of the session with this id, since ocserv
    /// reports none. Ignores an unknown id.
    pub fn expect_end(&mut self, id: OcservId, reason: DisconnectReason) {
        if let Some(Entry {
            state: State::Live { reason: expected, .. } | State::AwaitingAnswer { reason: expected, .. },
            ..
        }) = self.by_id.get_mut(&id)
        {
            *expected = reason;
        }
    }

    /// The number of live sessions.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.by_id
            .values()
            .filter(|entry| matches!(entry.state, State::Live { .. }))
            .count()
    }

    /// Inserts an entry and returns its sequence number; evicts the oldest of a full store.
    fn insert(&mut self, id: OcservId, username: Username, state: State) -> u64 {
        self.remove(id);
        if self.by_id.len() >= self.max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_id.remove(&oldest);
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.by_age.insert(sequence, id);
        let entry = Entry {
            sequence,
            username,
            state,
        };
        self.by_id.insert(id, entry);
        sequence
    }

    fn remove(&mut self, id: OcservId) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.by_age.remove(&entry.sequence);
        Some(entry)
    }

    /// Removes the entry of a login, unless it was evicted or superseded.
    fn take(&mut self, LoginHandle { id, sequence }: LoginHandle) -> Option<Entry> {
        if self.by_id.get(&id)?.sequence != sequence {
            return None;
        }
        self.remove(id)
    }
}

impl State {
    /// Returns the disconnect event of this session; `None` when there was no connect event.
    fn end(
        self,
        username: &Username,
        id: OcservId,
        at: SystemTime,
        usage: Option<Usage>,
        duration: Option<Duration>,
    ) -> Option<Event> {
        let Self::Live {
            uid,
            connected_at,
            source,
            vhost,
            reason,
        } = self
        else {
            return None;
        };
        let disconnected = EventKind::Disconnected(Disconnected {
            at: end_time(connected_at, duration, at),
            reason,
            usage,
            is_sampled: false,
            duration,
        });
        Some(event(username, id, &uid, source, vhost, disconnected))
    }
}

fn event(
    username: &Username,
    id: OcservId,
    uid: &SessionUid,
    decision_source: Option<Source>,
    vhost: Option<VhostName>,
    kind: EventKind,
) -> Event {
    Event {
        event_id: EventId::new(uid, &kind),
        username: username.clone(),
        id,
        uid: uid.clone(),
        decision_source,
        vhost,
        reconciled: None,
        kind,
    }
}

#[cfg(test)]
mod tests;
