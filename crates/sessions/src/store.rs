//! The store of logins in progress and live sessions, by ocserv's id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DisconnectReason, Login, OcservId, Reconciled, SessionUid, Source};

use crate::changes::{Changes, RowChange};
use crate::ended::{EndOf, RecentEnds};
use crate::listed::ListMark;
use crate::report::DisconnectReport;
use crate::row;
use crate::session::{End, Session};
use crate::time::{at_second, end_time, seconds};

/// Most logins and sessions in the store: above ocserv's practical limits, so that only entries
/// whose end was never reported are evicted.
const MAX_SESSIONS: usize = 16_384;

/// The exactness of a connect time that follows from the duration that a script reports: both are
/// in seconds, and the script has to run.
const REPORTED_START_ACCURACY: Duration = Duration::from_secs(2);

/// A login in progress, between its request and its response. Settle it with
/// [`SessionStore::session_started`], [`SessionStore::answer_undelivered`] or
/// [`SessionStore::login_denied`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a login that is not settled stays in progress"]
pub struct LoginHandle {
    pub(crate) id: OcservId,
    sequence: u64,
}

/// Holds the logins in progress and the live sessions of one server; evicts the oldest when full.
#[derive(Debug)]
pub struct SessionStore {
    pub(crate) agent_id: String,
    pub(crate) max: usize,
    /// The latest entry's number; orders entries by age and identifies the login of a handle.
    pub(crate) sequence: u64,
    pub(crate) by_id: HashMap<OcservId, Entry>,
    /// The ids of all entries, the oldest first.
    by_age: BTreeMap<u64, OcservId>,
    /// Logins that wait for their settlement although their id was reused.
    displaced: HashMap<u64, LoginInProgress>,
    pub(crate) ends: RecentEnds,
    /// The number of the last list.
    pub(crate) generation: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    /// The last list that had it.
    pub(crate) generation: u64,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    AwaitingAnswer(LoginInProgress),
    Live(Box<Session>),
}

/// A login that waits for its response. The report of its end may come first.
#[derive(Debug)]
pub(crate) struct LoginInProgress {
    login: Arc<Login>,
    arrived: SystemTime,
    ended: Option<EarlyEnd>,
    /// Set when ocserv lists the session before its allow is confirmed.
    reason: DisconnectReason,
}

/// The end of a session that is not registered yet.
#[derive(Debug)]
enum EarlyEnd {
    Reported(Box<DisconnectReport>, SystemTime),
    /// Its id was reused at this time.
    Superseded(SystemTime),
}

impl SessionStore {
    /// Creates an empty store for the server of `agent_id`.
    #[must_use]
    pub fn new(agent_id: &str) -> Self {
        Self::with_max(agent_id, MAX_SESSIONS)
    }

    pub(crate) fn with_max(agent_id: &str, max: usize) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            max,
            sequence: 0,
            by_id: HashMap::new(),
            by_age: BTreeMap::new(),
            displaced: HashMap::new(),
            ends: RecentEnds::default(),
            generation: 0,
        }
    }

    /// Returns the mark of a list that is asked for now.
    #[must_use]
    pub fn mark(&self) -> ListMark {
        ListMark(self.sequence)
    }

    /// Adds a login in progress. Ends a session with the same id, if there is one: its
    /// disconnect-script never reported.
    pub fn login_started(&mut self, login: &Arc<Login>, now: SystemTime) -> (LoginHandle, Changes) {
        let mut changes = Changes::default();
        if let Some(entry) = self.remove(login.id) {
            match entry.state {
                State::Live(session) => self.end_unseen(&session, now, &mut changes),
                // Its own settlement decides whether it was a session.
                State::AwaitingAnswer(mut earlier) => {
                    earlier.ended.get_or_insert(EarlyEnd::Superseded(now));
                    if self.displaced.len() < self.max {
                        self.displaced.insert(entry.sequence, earlier);
                    }
                }
            }
        }
        let state = State::AwaitingAnswer(LoginInProgress {
            login: Arc::clone(login),
            arrived: now,
            ended: None,
            reason: DisconnectReason::Unspecified,
        });
        let sequence = self.insert(login.id, state);
        let handle = LoginHandle {
            id: login.id,
            sequence,
        };
        (handle, changes)
    }

    /// Removes a denied login. There is no event of it, also when ocserv reports an end, which it
    /// does when the connect-script was killed.
    pub fn login_denied(&mut self, handle: LoginHandle, now: SystemTime) {
        self.forget_login(handle, now);
    }

    /// Removes a login whose helper did not read its allow; as [`Self::login_denied`].
    pub fn answer_undelivered(&mut self, handle: LoginHandle, now: SystemTime) {
        self.forget_login(handle, now);
    }

    fn forget_login(&mut self, handle: LoginHandle, now: SystemTime) {
        // No further report follows an end that was reported already.
        if let Some(LoginInProgress {
            login,
            arrived,
            ended: None,
            ..
        }) = self.take(handle)
        {
            let connection = (login.id, login.username.clone(), seconds(arrived));
            self.ends.add(EndOf::Login, connection, now, self.max);
        }
    }

    /// Starts the session of a login whose helper read its allow. `connected_at` is ocserv's
    /// connect time, in seconds since 1970, where it is known; else the uid has the login's time.
    pub fn session_started(
        &mut self,
        handle: LoginHandle,
        source: Source,
        connected_at: Option<u64>,
    ) -> Changes {
        let mut changes = Changes::default();
        let Some(LoginInProgress {
            login,
            arrived,
            ended,
            reason,
        }) = self.take(handle)
        else {
            return changes;
        };
        let uid_second = connected_at.unwrap_or_else(|| seconds(arrived));
        let session = Session {
            id: login.id,
            username: login.username.clone(),
            uid: SessionUid::new(&self.agent_id, login.id, uid_second),
            uid_second,
            connected_at,
            group: login.group.clone(),
            client_ip: Some(login.client_ip),
            vpn_ip: login.vpn_ip,
            device: login.device.clone(),
            vhost: login.vhost.clone(),
            source: Some(source),
            reason,
            usage: None,
            last_activity: arrived,
            confirmed_at: arrived,
            missing_since: None,
        };
        let at = connected_at.map_or(arrived, at_second);
        changes.events.push(session.connect_event(at, None));
        match ended {
            None => self.insert_live(session, &mut changes),
            Some(EarlyEnd::Reported(report, at)) => self.end_reported(&session, &report, at, &mut changes),
            Some(EarlyEnd::Superseded(at)) => self.end_unseen(&session, at, &mut changes),
        }
        changes
    }

    /// Removes a session whose disconnect-script reports at `now`. Without events while the login
    /// is in progress ([`Self::session_started`] will return both), for a login that did not become
    /// a session, and for a session whose end was reported. With both events for a session that
    /// nobody reported.
    pub fn session_ended(&mut self, report: DisconnectReport, now: SystemTime) -> Changes {
        let mut changes = Changes::default();
        let is_awaiting = match self.by_id.get_mut(&report.id).map(|entry| &mut entry.state) {
            Some(State::AwaitingAnswer(login)) if login.login.username == report.username => {
                login.ended = Some(EarlyEnd::Reported(Box::new(report), now));
                return changes;
            }
            Some(State::AwaitingAnswer(_)) => true,
            Some(State::Live(_)) | None => false,
        };
        // A late report leaves a login in progress with the same id as it is.
        let live = if is_awaiting {
            None
        } else {
            self.remove_live(report.id)
        };
        match live {
            Some(session) if session.username == report.username => {
                self.end_reported(&session, &report, now, &mut changes);
            }
            // The stored session's disconnect-script never reported, and the id was reused.
            Some(session) => {
                self.end_unseen(&session, now, &mut changes);
                self.end_unknown(&report, now, &mut changes);
            }
            None => self.end_unknown(&report, now, &mut changes),
        }
        changes
    }

    /// Adds both events of a session that ended before anybody reported it. Its start follows from
    /// its duration.
    fn end_unknown(&mut self, report: &DisconnectReport, now: SystemTime, changes: &mut Changes) {
        let start = report.duration.and_then(|duration| now.checked_sub(duration));
        let has_traffic = report
            .usage
            .is_some_and(|usage| usage.received > 0 || usage.sent > 0);
        if self
            .ends
            .has_reported(report.id, &report.username, start.map(seconds), has_traffic)
        {
            return;
        }
        let start = start.unwrap_or(now);
        let second = seconds(start);
        let session = Session {
            id: report.id,
            username: report.username.clone(),
            uid: SessionUid::new(&self.agent_id, report.id, second),
            uid_second: second,
            connected_at: None,
            group: report.group.clone(),
            client_ip: report.client_ip,
            vpn_ip: report.vpn_ip,
            device: report.device.clone(),
            vhost: report.vhost.clone(),
            source: None,
            reason: DisconnectReason::Unspecified,
            usage: None,
            last_activity: start,
            confirmed_at: now,
            missing_since: None,
        };
        let reconciled = Reconciled {
            time_accuracy: REPORTED_START_ACCURACY,
        };
        let connected = session.connect_event(at_second(second), Some(reconciled));
        changes.events.push(connected);
        self.end_reported(&session, report, now, changes);
    }

    /// Ends a session whose disconnect-script reported.
    fn end_reported(
        &mut self,
        session: &Session,
        report: &DisconnectReport,
        now: SystemTime,
        changes: &mut Changes,
    ) {
        let end = End {
            at: end_time(session.second(), report.duration, now),
            usage: report.usage,
            duration: report.duration,
            reason: DisconnectReason::Unspecified,
            reconciled: None,
        };
        self.end(session, end, now, changes);
    }

    /// Ends a session of whose end nobody reported.
    fn end_unseen(&mut self, session: &Session, latest: SystemTime, changes: &mut Changes) {
        let end = session.unseen_end(latest, DisconnectReason::Unspecified);
        self.end(session, end, latest, changes);
    }

    pub(crate) fn end(&mut self, session: &Session, end: End, now: SystemTime, changes: &mut Changes) {
        let (event, traffic) = session.disconnect_event(end);
        changes.events.push(event);
        changes.add_traffic(traffic);
        changes.rows.push(RowChange {
            uid: session.uid.clone(),
            row: None,
        });
        let connection = (session.id, session.username.clone(), session.second());
        self.ends.add(EndOf::Session, connection, now, self.max);
    }

    /// Sets the reason of the next disconnect event of the session with this id, since ocserv
    /// reports none. Ignores an unknown id.
    pub fn expect_end(&mut self, id: OcservId, reason: DisconnectReason) -> Changes {
        let mut changes = Changes::default();
        match self.by_id.get_mut(&id).map(|entry| &mut entry.state) {
            Some(State::AwaitingAnswer(login)) => login.reason = reason,
            Some(State::Live(session)) => {
                session.reason = reason;
                changes.rows.push(row::change(session));
            }
            None => {}
        }
        changes
    }

    pub(crate) fn insert_live(&mut self, session: Session, changes: &mut Changes) {
        changes.rows.push(row::change(&session));
        self.ends.remove(session.id);
        self.insert(session.id, State::Live(Box::new(session)));
    }

    /// Inserts an entry and returns its sequence number; evicts the oldest of a full store.
    pub(crate) fn insert(&mut self, id: OcservId, state: State) -> u64 {
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
            generation: self.generation,
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

    /// Removes the live session with this id.
    pub(crate) fn remove_live(&mut self, id: OcservId) -> Option<Session> {
        if !matches!(self.by_id.get(&id)?.state, State::Live(_)) {
            return None;
        }
        match self.remove(id)?.state {
            State::Live(session) => Some(*session),
            State::AwaitingAnswer(_) => None,
        }
    }

    /// Removes the login of a handle, unless it was evicted.
    fn take(&mut self, LoginHandle { id, sequence }: LoginHandle) -> Option<LoginInProgress> {
        if let Some(login) = self.displaced.remove(&sequence) {
            return Some(login);
        }
        if self.by_id.get(&id)?.sequence != sequence {
            return None;
        }
        match self.remove(id)?.state {
            State::AwaitingAnswer(login) => Some(login),
            State::Live(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
