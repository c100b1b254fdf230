//! What becomes of sessions: noted, logged, counted and reported, in this order.

use std::sync::{Arc, Mutex, PoisonError};

use ocserv_agent_model::{Event, EventKind, Login, Source};

use crate::clock;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::sessions::{Ended, Sessions, Ticket};

/// Where happenings are written down.
pub(super) struct Ledger {
    sessions: Arc<Sessions>,
    /// What the portal is told; `None` where there is no portal.
    events: Option<Events>,
    metrics: Metrics,
    /// Held while something happens to a session and the portal's queue takes the events of it.
    turn: Mutex<()>,
}

impl Ledger {
    pub(super) fn new(sessions: Arc<Sessions>, events: Option<Events>, metrics: Metrics) -> Self {
        Self {
            sessions,
            events,
            metrics,
            turn: Mutex::default(),
        }
    }

    /// A login asks.
    pub(super) fn asks(&self, login: &Arc<Login>) -> Ticket {
        let now = clock::wall();
        let (ticket, superseded) = self.in_turn(|| {
            let (ticket, superseded) = self.sessions.begin(login, now);
            superseded.iter().for_each(|event| self.report(event));
            (ticket, superseded)
        });
        if let Some(event) = superseded {
            let (user, uid) = (event.username.as_str(), &event.uid);
            tracing::info!(target: "session", user, %uid, "session ended unseen");
        }
        ticket
    }

    /// The login was denied.
    pub(super) fn denied(&self, ticket: &Ticket) {
        self.sessions.denied(ticket);
    }

    /// The login was allowed, and nobody heard it.
    pub(super) fn undelivered(&self, ticket: &Ticket, login: &Login) {
        let (user, id) = (login.username.as_str(), login.id);
        tracing::warn!(target: "session", user, %id, "nobody heard the answer");
        self.sessions.undelivered(ticket);
    }

    /// The session has begun, by `connected_at` if ocserv said so.
    pub(super) fn began(&self, ticket: &Ticket, source: Source, connected_at: Option<u64>) {
        self.tell(|| self.sessions.delivered(ticket, source, connected_at));
    }

    /// A disconnect-script reports.
    pub(super) fn ended(&self, ended: Ended) {
        let now = clock::wall();
        self.tell(|| self.sessions.ended(ended, now));
    }

    /// One happening at a time: else the end of a session could get into the queue before its beginning.
    fn in_turn<T>(&self, happens: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        happens()
    }

    /// Reports what happens, and then, while others go on, counts and logs it.
    fn tell(&self, happens: impl FnOnce() -> Vec<Event>) {
        let events = self.in_turn(|| {
            let events = happens();
            events.iter().for_each(|event| self.report(event));
            events
        });
        events.iter().for_each(log);
    }

    fn report(&self, event: &Event) {
        self.metrics.happened(&event.kind);
        if let Some(events) = &self.events {
            events.push(event.clone());
        }
    }
}

fn log(event: &Event) {
    let (user, id, uid) = (event.username.as_str(), event.id, &event.uid);
    match &event.kind {
        EventKind::Connected(_) => {
            tracing::info!(target: "session", user, %id, %uid, "session began");
        }
        EventKind::Disconnected(end) => {
            let duration_s = end.duration.map(|duration| duration.as_secs());
            let (bytes_in, bytes_out) = (end.usage.map(|u| u.received), end.usage.map(|u| u.sent));
            let reason = end.reason;
            tracing::info!(
                target: "session", user, %id, %uid, %reason, duration_s, bytes_in, bytes_out, "session ended"
            );
        }
    }
}

#[cfg(test)]
mod tests;
