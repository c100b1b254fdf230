//! The comparison with ocserv's list.

use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    DisconnectReason, GroupName, OcservId, Reconciled, SessionUid, Username, VhostName,
};

use crate::changes::Changes;
use crate::listed::{ListMark, ListedSession};
use crate::row;
use crate::session::Session;
use crate::store::{SessionStore, State};
use crate::time::at_second;

/// How long a session may be missing before its end counts: ocserv removes a session from the list
/// before it starts the disconnect-script, whose report has the byte counts.
const GRACE: Duration = Duration::from_secs(2);

/// The exactness of a listed connect time.
const LISTED_START_ACCURACY: Duration = Duration::from_secs(1);

/// What a list changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The events of sessions that began and ended unseen, and their rows.
    pub changes: Changes,
    /// Sessions that the list does not have and that have not ended yet: compare again after
    /// [`Plan::RECHECK`].
    pub missing: usize,
}

impl Plan {
    /// When to compare again while sessions are missing.
    pub const RECHECK: Duration = Duration::from_millis(2_200);
}

impl SessionStore {
    /// Compares the store with a complete list of ocserv's connections, that was asked for at
    /// `mark` and received at `now`. `ocserv_started_at` is when ocserv's main process started,
    /// where it is known: older sessions ended with the one before it.
    ///
    /// A listed session that nobody reported begins. A session that is missing ends, with the
    /// second list that does not have it or when its id is another connection's.
    #[must_use]
    pub fn reconcile<'a>(
        &mut self,
        listed: impl IntoIterator<Item = ListedSession<'a>>,
        mark: ListMark,
        ocserv_started_at: Option<u64>,
        now: SystemTime,
    ) -> Plan {
        self.generation += 1;
        self.ends.forget_old(now);
        let mut changes = Changes::default();
        for row in listed {
            self.see(&row, mark, now, &mut changes);
        }
        let missing = self.end_missing(mark, ocserv_started_at, now, &mut changes);
        Plan { changes, missing }
    }

    /// Compares one row.
    fn see(&mut self, row: &ListedSession<'_>, mark: ListMark, now: SystemTime, changes: &mut Changes) {
        let generation = self.generation;
        if let Some(entry) = self.by_id.get_mut(&row.id) {
            match &mut entry.state {
                // Its settlement decides; until then the row is the same login or older.
                State::AwaitingAnswer(_) => {
                    entry.generation = generation;
                    return;
                }
                State::Live(session) if session.is_same(row.username, row.connected_at) => {
                    entry.generation = generation;
                    if session.confirm(row, now) {
                        changes.rows.push(row::change(session));
                    }
                    return;
                }
                // The list is older than the entry.
                State::Live(_) if entry.sequence > mark.0 => return,
                State::Live(_) => {}
            }
            if let Some(session) = self.remove_live(row.id) {
                let end = session.unseen_end(now, DisconnectReason::Unspecified);
                self.end(&session, end, now, changes);
            }
        }
        if row.is_connected && !self.ends.has_session(row.id, row.connected_at) {
            self.begin(row, now, changes);
        }
    }

    /// Begins a session that nobody reported, unless its username is invalid for the agent.
    fn begin(&mut self, row: &ListedSession<'_>, now: SystemTime, changes: &mut Changes) {
        let Ok(username) = Username::parse(row.username) else {
            return;
        };
        let session = Session {
            id: row.id,
            username,
            uid: SessionUid::new(&self.agent_id, row.id, row.connected_at),
            uid_second: row.connected_at,
            connected_at: Some(row.connected_at),
            group: row.group.and_then(|name| GroupName::parse(name).ok()),
            client_ip: row.client_ip,
            vpn_ip: row.vpn_ip,
            device: row.device.unwrap_or_default().to_owned(),
            vhost: row.vhost.and_then(|name| VhostName::parse(name).ok()),
            source: None,
            reason: DisconnectReason::Unspecified,
            usage: None,
            last_activity: now,
            confirmed_at: now,
            missing_since: None,
        };
        let reconciled = Reconciled {
            time_accuracy: LISTED_START_ACCURACY,
        };
        let at = at_second(row.connected_at);
        changes.events.push(session.connect_event(at, Some(reconciled)));
        self.insert_live(session, changes);
    }

    /// Ends the sessions that are missing for long enough; returns how many are still waited for.
    fn end_missing(
        &mut self,
        mark: ListMark,
        ocserv_started_at: Option<u64>,
        now: SystemTime,
        changes: &mut Changes,
    ) -> usize {
        let generation = self.generation;
        let mut waiting = 0;
        let mut ended: Vec<OcservId> = Vec::new();
        for (id, entry) in &mut self.by_id {
            let State::Live(session) = &mut entry.state else {
                continue;
            };
            if entry.generation == generation || entry.sequence > mark.0 {
                continue;
            }
            let since = *session.missing_since.get_or_insert(now);
            // A clock that was set back must not keep it for ever.
            if now.duration_since(since).map_or(true, |missing| missing >= GRACE) {
                ended.push(*id);
            } else {
                waiting += 1;
            }
        }
        ended.sort_unstable();
        for id in ended {
            let Some(session) = self.remove_live(id) else {
                continue;
            };
            let since = session.missing_since.unwrap_or(now);
            let end = match ocserv_started_at {
                Some(started_at) if session.is_older_than(started_at) => {
                    let latest = since.min(at_second(started_at));
                    session.unseen_end(latest, DisconnectReason::ServerShutdown)
                }
                _ => session.unseen_end(since, DisconnectReason::Unspecified),
            };
            self.end(&session, end, now, changes);
        }
        waiting
    }

    /// Ends the sessions that ocserv could not confirm for `ttl`.
    pub fn expire(&mut self, ttl: Duration, now: SystemTime) -> Changes {
        let mut changes = Changes::default();
        let mut expired: Vec<OcservId> = Vec::new();
        for session in self.sessions() {
            let unconfirmed = now.duration_since(session.confirmed_at);
            if unconfirmed.is_ok_and(|unconfirmed| unconfirmed >= ttl) {
                expired.push(session.id);
            }
        }
        expired.sort_unstable();
        for id in expired {
            let Some(session) = self.remove_live(id) else {
                continue;
            };
            let end = session.unseen_end(now, DisconnectReason::Unspecified);
            self.end(&session, end, now, &mut changes);
        }
        changes
    }
}

impl Session {
    /// Takes over what the list knows; returns whether the stored row changes.
    fn confirm(&mut self, row: &ListedSession<'_>, now: SystemTime) -> bool {
        self.confirmed_at = now;
        self.missing_since = None;
        let mut is_changed = false;
        if self.connected_at.is_none() {
            self.connected_at = Some(row.connected_at);
            is_changed = true;
        }
        if let Some(device) = row.device
            && device != self.device
        {
            device.clone_into(&mut self.device);
            is_changed = true;
        }
        if self.vpn_ip.is_none() && row.vpn_ip.is_some() {
            self.vpn_ip = row.vpn_ip;
            is_changed = true;
        }
        is_changed
    }
}

#[cfg(test)]
mod tests;
