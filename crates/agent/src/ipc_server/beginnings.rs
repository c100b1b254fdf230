//! Logins that were let in become sessions once their helpers heard it: off the login's path, and many of them with one
//! question to ocserv.
//!
//! A session bears the second at which ocserv accepted its connection in its name, and only ocserv knows it. In a rush
//! of logins one question for each would load ocserv's single main process while it is busiest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ocserv::Ocserv;
use ocserv_agent_model::{Login, Source};
use sessions::LoginHandle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::bytes::{TAKEN_WITHIN, was_taken};
use super::line::Line;
use crate::clock;
use crate::operations::record_session::SessionRecorder;

/// How long beginnings are collected for one question.
const COLLECT: Duration = Duration::from_millis(2);
/// How long ocserv has for its answers. A stop waits for them, and an event is worth more than its exact second.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// A login whose allow has been written to the helper.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Where the helper is, until it goes.
    pub(super) line: Line,
    /// When the answer was written.
    pub(super) written: Instant,
    pub(super) handle: LoginHandle,
    pub(super) login: Arc<Login>,
    pub(super) source: Source,
}

/// The one who makes sessions of logins.
pub(super) struct Registrar {
    recorder: Arc<SessionRecorder>,
    ocserv: Ocserv,
    beginnings: mpsc::Receiver<Beginning>,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").finish_non_exhaustive()
    }
}

impl Registrar {
    /// A registrar, and where beginnings go in; `room` of them may wait.
    pub(super) fn new(
        recorder: Arc<SessionRecorder>,
        ocserv: Ocserv,
        room: usize,
    ) -> (Self, mpsc::Sender<Beginning>) {
        let (sender, beginnings) = mpsc::channel(room);
        let registrar = Self {
            recorder,
            ocserv,
            beginnings,
        };
        (registrar, sender)
    }

    /// Works until the last sender is gone and nothing waits.
    pub(super) async fn run(mut self) {
        let room = self.beginnings.max_capacity();
        let mut answered = Vec::new();
        loop {
            if answered.is_empty() && self.beginnings.recv_many(&mut answered, room).await == 0 {
                return;
            }
            sleep(COLLECT).await;
            while answered.len() < room
                && let Ok(more) = self.beginnings.try_recv()
            {
                answered.push(more);
            }
            let mut batch = self.heard(&mut answered);
            if !batch.is_empty() {
                self.register(&mut batch).await;
            }
        }
    }

    /// Takes out of `answered` whose helpers are gone; gives those that heard their answer.
    fn heard(&self, answered: &mut Vec<Beginning>) -> Vec<Beginning> {
        let now = clock::now();
        let mut heard = Vec::new();
        for beginning in std::mem::take(answered) {
            // A helper that neither reads nor goes has the answer in its hands.
            let is_late = now >= beginning.written + TAKEN_WITHIN;
            match was_taken(&beginning.line).or(is_late.then_some(true)) {
                Some(true) => heard.push(beginning),
                Some(false) => self
                    .recorder
                    .answer_undelivered(beginning.handle, &beginning.login),
                None => answered.push(beginning),
            }
        }
        heard
    }

    async fn register(&self, batch: &mut Vec<Beginning>) {
        let logins: Vec<&Login> = batch.iter().map(|beginning| &*beginning.login).collect();
        let connect_times = self.ocserv.connect_times(&logins, ANSWERED_WITHIN).await;
        for (beginning, connected_at) in batch.drain(..).zip(connect_times) {
            self.recorder
                .session_started(beginning.handle, beginning.source, connected_at);
        }
    }
}

#[cfg(test)]
mod tests;
