//! Records the life of logins and sessions: in the store, in the outbox, as metrics and in the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocserv_agent_model::{DisconnectReason, Event, EventKind, Login, OcservId, Source};
use sessions::{DisconnectReport, ExistingSession, LoginHandle, SessionStore};

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

    /// Adds sessions that were connected before this agent started; see [`SessionStore::import`].
    pub(crate) fn import(&self, existing: impl IntoIterator<Item = ExistingSession>) {
        let mut store = self.store();
        existing.into_iter().for_each(|session| store.import(session));
    }

    /// Records a login that waits for its response.
    pub(crate) fn login_started(&self, login: &Arc<Login>) -> LoginHandle {
        let now = clock::wall();
        let (handle, superseded) = {
            let mut store = self.store();
            let (handle, superseded) = store.login_started(login, now);
            let _pushed = self.report(superseded.as_slice());
            (handle, superseded)
        };
        if let Some(event) = superseded {
            let (user, uid) = (event.username.as_str(), &event.uid);
            tracing::info!(
                target: "session", user, %uid, "session superseded: id reused without a disconnect"
            );
        }
        handle
    }

    /// Records that a login was denied.
    pub(crate) fn login_denied(&self, login: LoginHandle) {
        self.store().login_denied(login);
    }

    /// Records that the helper of `login` did not read its allow.
    pub(crate) fn answer_undelivered(&self, handle: LoginHandle, login: &Login) {
        let (user, id) = (login.username.as_str(), login.id);
        tracing::warn!(target: "session", user, %id, "helper exited before it read the allow");
        self.store().answer_undelivered(handle);
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
        self.store().expect_end(id, reason);
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
    fn record(&self, change: impl FnOnce(&mut SessionStore) -> Vec<Event>) -> Option<Appended> {
        let (events, appended) = {
            let mut store = self.store();
            let events = change(&mut store);
            let appended = self.report(&events);
            (events, appended)
        };
        events.iter().for_each(log);
        appended
    }

    fn report(&self, events: &[Event]) -> Option<Appended> {
        for event in events {
            self.metrics.session_event(&event.kind);
        }
        let outbox = self.outbox.as_ref().filter(|_| !events.is_empty())?;
        Some(outbox.append(events.iter().cloned(), Vec::new()))
    }
}

fn log(event: &Event) {
    let (user, id, uid) = (event.username.as_str(), event.id, &event.uid);
    match &event.kind {
        EventKind::Connected(_) => {
            tracing::info!(target: "session", user, %id, %uid, "session connected");
        }
        EventKind::Disconnected(end) => {
            let duration_s = end.duration.map(|duration| duration.as_secs());
            let (bytes_in, bytes_out) = (end.usage.map(|u| u.received), end.usage.map(|u| u.sent));
            let reason = end.reason;
            tracing::info!(
                target: "session", user, %id, %uid, %reason, duration_s, bytes_in, bytes_out,
                "session disconnected"
            );
        }
        EventKind::Updated(_) => {}
    }
}

#[cfg(test)]
mod tests;
