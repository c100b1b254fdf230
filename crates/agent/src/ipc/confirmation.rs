//! Confirms, off the login path, that helpers read their allow, and registers the sessions in
//! batches; see `docs/decisions/0009-batched-session-registration.md`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::frames::{RESPONSE_TIMEOUT, response_consumed};
use crate::clock;
use crate::operations::record_session::SessionRecorder;
use crate::operations::register_sessions::{PendingSession, SessionRegistrar};

/// Time between two looks at the allows that wait for their helpers. With a shorter one, logins
/// that come one after another feel the looks; with a longer one, the open connections cost
/// throughput.
const POLL_INTERVAL: Duration = Duration::from_millis(12);
/// A batch is complete when no further allow was read for this long: a burst of logins goes first.
const QUIET_PERIOD: Duration = Duration::from_millis(12);
/// Longest time that a burst delays the registration of its sessions.
const MAX_BATCH_DELAY: Duration = Duration::from_secs(2);
/// Most sessions in a batch.
const MAX_BATCH: usize = 16_384;

/// A login whose allow has been written to the helper.
#[derive(Debug)]
pub(super) struct WrittenAllow {
    /// The helper's connection.
    pub(super) connection: Connection,
    /// When the allow was written.
    pub(super) at: Instant,
    /// The session that the login becomes.
    pub(super) session: PendingSession,
}

/// Receives written allows and registers their sessions.
pub(super) struct Confirmation {
    recorder: Arc<SessionRecorder>,
    registrar: SessionRegistrar,
    allows: mpsc::Receiver<WrittenAllow>,
}

/// The confirmed sessions that are registered together.
#[derive(Default)]
struct Batch {
    sessions: Vec<PendingSession>,
    /// When the first and the last session were added.
    times: Option<(Instant, Instant)>,
}

impl Batch {
    fn add(&mut self, sessions: Vec<PendingSession>, now: Instant) {
        if !sessions.is_empty() {
            let first = self.times.map_or(now, |(first, _)| first);
            self.times = Some((first, now));
            self.sessions.extend(sessions);
        }
    }

    fn is_complete(&self, now: Instant) -> bool {
        self.times.is_some_and(|(first, last)| {
            now >= last + QUIET_PERIOD || now >= first + MAX_BATCH_DELAY || self.sessions.len() >= MAX_BATCH
        })
    }

    fn take(&mut self) -> Vec<PendingSession> {
        self.times = None;
        std::mem::take(&mut self.sessions)
    }
}

impl Confirmation {
    /// Creates the receiver and its queue, which holds `capacity` allows.
    pub(super) fn new(
        recorder: Arc<SessionRecorder>,
        registrar: SessionRegistrar,
        capacity: usize,
    ) -> (Self, mpsc::Sender<WrittenAllow>) {
        let (sender, allows) = mpsc::channel(capacity);
        let confirmation = Self {
            recorder,
            registrar,
            allows,
        };
        (confirmation, sender)
    }

    /// Runs until the last sender is dropped and every session is registered.
    pub(super) async fn run(mut self) {
        let capacity = self.allows.max_capacity();
        let mut waiting = Vec::new();
        let mut batch = Batch::default();
        loop {
            let is_idle = waiting.is_empty() && batch.sessions.is_empty();
            if is_idle && self.allows.recv_many(&mut waiting, capacity).await == 0 {
                return;
            }
            sleep(POLL_INTERVAL).await;
            while waiting.len() < capacity
                && let Ok(more) = self.allows.try_recv()
            {
                waiting.push(more);
            }
            let now = clock::now();
            batch.add(self.take_confirmed(&mut waiting, now), now);
            if batch.is_complete(now) || self.allows.is_closed() {
                self.registrar.register(batch.take()).await;
            }
        }
    }

    /// Removes the allows whose helper has closed or is overdue; returns the sessions of those that
    /// were read.
    fn take_confirmed(&self, waiting: &mut Vec<WrittenAllow>, now: Instant) -> Vec<PendingSession> {
        let mut confirmed = Vec::new();
        for allow in std::mem::take(waiting) {
            // A helper that stays connected has the response in its socket buffer.
            let is_overdue = now >= allow.at + RESPONSE_TIMEOUT;
            match response_consumed(&allow.connection).or(is_overdue.then_some(true)) {
                Some(true) => confirmed.push(allow.session),
                Some(false) => {
                    let PendingSession { handle, login, .. } = allow.session;
                    self.recorder.answer_undelivered(handle, &login);
                }
                None => waiting.push(allow),
            }
        }
        confirmed
    }
}

#[cfg(test)]
mod tests;
