//! Records the life of logins and sessions: in the store, in the outbox, as metrics and in the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_model::{DisconnectReason, Event, EventKind, Login, OcservId, SessionUid, Source, Usage};
use outbox::store::SessionKey;
use sessions::{Changes, DisconnectReport, ListMark, ListedSession, LoginHandle, SessionStore};

use super::shared_outbox::{Appended, SharedOutbox};
use crate::clock;
use crate::metrics::Metrics;

/// Owns the session store and reports its changes.
pub(crate) struct SessionRecorder {
    /// Locked until the events of a change are in the outbox, so that no disconnect overtakes its
    /// connect.
    store: Mutex<SessionStore>,
    /// `None` without a portal.
    outbox: Option<SharedOutbox>,
    metrics: Metrics,
}

impl SessionRecorder {
    /// Creates a recorder without sessions, for the server of `agent_id`.
    pub(crate) fn new(agent_id: &str, outbox: Option<SharedOutbox>, metrics: Metrics) -> Self {
        Self {
            store: Mutex::new(SessionStore::new(agent_id)),
            outbox,
            metrics,
        }
    }

    /// Takes over the sessions of an earlier run. Removes the rows that cannot be read.
    pub(crate) fn restore(&self, rows: Vec<(SessionKey, Vec<u8>)>) {
        let mut store = self.store();
        let (mut restored, mut removed) = (0_usize, Vec::new());
        for (key, row) in rows {
            match store.restore(&row) {
                Ok(()) => restored += 1,
                Err(error) => {
                    tracing::warn!(%error, "could not read the row of a session");
                    removed.push((key, None));
                }
            }
        }
        if let Some(outbox) = self.outbox.as_ref().filter(|_| !removed.is_empty()) {
            let _pushed = outbox.append([], removed);
        }
        tracing::info!(sessions = restored, "sessions of an earlier run restored");
    }

    /// Records a login that waits for its response.
    pub(crate) fn login_started(&self, login: &Arc<Login>) -> LoginHandle {
        let now = clock::wall();
        let (handle, superseded) = {
            let mut store = self.store();
            let (handle, changes) = store.login_started(login, now);
            (handle, self.apply(changes).0)
        };
        for event in superseded {
            let (user, uid) = (event.username.as_str(), &event.uid);
            tracing::info!(
                target: "session", user, %uid, "session superseded: id reused without a disconnect"
            );
        }
        handle
    }

    /// Records that a login was denied.
    pub(crate) fn login_denied(&self, login: LoginHandle) {
        self.store().login_denied(login, clock::wall());
    }

    /// Records that the helper of `login` did not read its allow.
    pub(crate) fn answer_undelivered(&self, handle: LoginHandle, login: &Login) {
        let (user, id) = (login.username.as_str(), login.id);
        tracing::warn!(target: "session", user, %id, "helper exited before it read the allow");
        self.store().answer_undelivered(handle, clock::wall());
    }

    /// Records that a session started; `connected_at` is ocserv's connect time, in seconds since
    /// 1970, where it is known.
    pub(crate) fn session_started(&self, login: LoginHandle, source: Source, connected_at: Option<u64>) {
        let _pushed = self.record(|store| store.session_started(login, source, connected_at));
    }

    /// Records a disconnect-script's report. Returns what is to be on disk before the script is
    /// answered; `None` without a portal.
    pub(crate) fn session_ended(&self, report: DisconnectReport) -> Option<Appended> {
        let now = clock::wall();
        self.record(|store| store.session_ended(report, now))
    }

    /// Sets the reason that the end of a session will have; see [`SessionStore::expect_end`].
    pub(crate) fn expect_end(&self, id: OcservId, reason: DisconnectReason) {
        let _pushed = self.record(|store| store.expect_end(id, reason));
    }

    /// Returns the mark of a list that is asked for now; see [`Self::reconcile`].
    pub(crate) fn list_mark(&self) -> ListMark {
        self.store().mark()
    }

    /// Compares the sessions with ocserv's list; see [`SessionStore::reconcile`]. Returns how many
    /// sessions are missing and not ended yet.
    pub(crate) fn reconcile<'a>(
        &self,
        listed: impl IntoIterator<Item = ListedSession<'a>>,
        mark: ListMark,
        ocserv_started_at: Option<u64>,
    ) -> usize {
        let now = clock::wall();
        let mut missing = 0;
        let _pushed = self.record(|store| {
            let plan = store.reconcile(listed, mark, ocserv_started_at, now);
            missing = plan.missing;
            plan.changes
        });
        missing
    }

    /// Ends the sessions that ocserv could not confirm for `ttl`.
    pub(crate) fn expire(&self, ttl: Duration) {
        let now = clock::wall();
        let _pushed = self.record(|store| store.expire(ttl, now));
    }

    /// Records the byte counts of the tun devices, by name; `None` when they are unknown. Returns
    /// one update of each session; see [`Self::session_updated`].
    pub(crate) fn sample(&self, usage: Option<&HashMap<String, Usage>>, idle_after: Duration) -> Vec<Event> {
        let now = clock::wall();
        let usage_of = |device: &str| usage?.get(device).copied();
        let mut store = self.store();
        let mut changes = store.sample(usage_of, idle_after, now);
        let updates = std::mem::take(&mut changes.events);
        let _pushed = self.apply(changes);
        updates
    }

    /// Reports an update, unless its session has ended meanwhile.
    pub(crate) fn session_updated(&self, update: Event) {
        let store = self.store();
        if store.is_live(&update)
            && let Some(outbox) = &self.outbox
        {
            let _pushed = outbox.append([update], Vec::new());
        }
    }

    /// Whether the session that `event` is about is still connected; and since when, in seconds
    /// since 1970.
    pub(crate) fn connected_at(&self, event: &Event) -> Option<u64> {
        let store = self.store();
        let session = store.get(event.id).filter(|session| session.uid == event.uid)?;
        Some(session.second())
    }

    /// The number of live sessions.
    pub(crate) fn live_count(&self) -> usize {
        self.store().live_count()
    }

    fn store(&self) -> MutexGuard<'_, SessionStore> {
        // No method of the store panics with a change half made.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and reports its events; logs them after the lock is released.
    fn record(&self, change: impl FnOnce(&mut SessionStore) -> Changes) -> Option<Appended> {
        let (events, appended) = {
            let mut store = self.store();
            let changes = change(&mut store);
            self.apply(changes)
        };
        events.iter().for_each(log);
        appended
    }

    /// Counts and reports a change, while the store is locked; its events and its rows are written
    /// together. Returns the events for the log.
    fn apply(&self, changes: Changes) -> (Vec<Event>, Option<Appended>) {
        let Changes {
            events,
            rows,
            traffic,
        } = changes;
        self.metrics.session_traffic(traffic);
        for event in &events {
            self.metrics.session_event(&event.kind);
        }
        if events.is_empty() && rows.is_empty() {
            return (events, None);
        }
        let rows = rows.into_iter().map(|change| (key(&change.uid), change.row));
        let appended = self
            .outbox
            .as_ref()
            .map(|outbox| outbox.append(events.iter().cloned(), rows.collect()));
        (events, appended)
    }
}

fn key(uid: &SessionUid) -> SessionKey {
    SessionKey(uid.as_str().as_bytes().to_vec())
}

fn log(event: &Event) {
    let (user, id, uid) = (event.username.as_str(), event.id, &event.uid);
    match &event.kind {
        EventKind::Connected(_) => {
            let reconciled = event.reconciled.is_some();
            tracing::info!(target: "session", user, %id, %uid, reconciled, "session connected");
        }
        EventKind::Disconnected(end) => {
            let duration_s = end.duration.map(|duration| duration.as_secs());
            let (bytes_in, bytes_out) = (end.usage.map(|u| u.received), end.usage.map(|u| u.sent));
            let (reason, reconciled) = (end.reason, event.reconciled.is_some());
            tracing::info!(
                target: "session", user, %id, %uid, %reason, duration_s, bytes_in, bytes_out,
                reconciled, "session disconnected"
            );
        }
        EventKind::Updated(_) => {}
    }
}

#[cfg(test)]
mod tests;
