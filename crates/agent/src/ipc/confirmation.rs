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

/// Time over which allowed logins are collected into one batch.
const BATCH_INTERVAL: Duration = Duration::from_millis(2);

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

    /// Runs until the last sender is dropped and the queue is empty.
    pub(super) async fn run(mut self) {
        let capacity = self.allows.max_capacity();
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() && self.allows.recv_many(&mut waiting, capacity).await == 0 {
                return;
            }
            sleep(BATCH_INTERVAL).await;
            while waiting.len() < capacity
                && let Ok(more) = self.allows.try_recv()
            {
                waiting.push(more);
            }
            let confirmed = self.take_confirmed(&mut waiting);
            self.registrar.register(confirmed).await;
        }
    }

    /// Removes the allows whose helper has closed or is overdue; returns the sessions of those that
    /// were read.
    fn take_confirmed(&self, waiting: &mut Vec<WrittenAllow>) -> Vec<PendingSession> {
        let now = clock::now();
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
