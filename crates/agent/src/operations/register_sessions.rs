//! Registers allowed logins as sessions, a batch with one request to ocserv.
//!
//! A session's uid contains ocserv's connect time, in seconds. One request per login would load
//! ocserv's single main process while it is busiest.

use std::sync::Arc;
use std::time::Duration;

use ocserv::Ocserv;
use ocserv_agent_model::{Login, Source};
use sessions::LoginHandle;

use super::record_session::SessionRecorder;

/// Longest time for ocserv's replies. A shutdown waits for them, and an event without the exact
/// connect time is better than none.
const CONNECT_TIMES_TIMEOUT: Duration = Duration::from_millis(500);

/// An allowed login whose session is not registered yet.
#[derive(Debug)]
pub(crate) struct PendingSession {
    /// The login in the session store.
    pub(crate) handle: LoginHandle,
    /// The login.
    pub(crate) login: Arc<Login>,
    /// The source of the allow.
    pub(crate) source: Source,
}

/// Registers sessions with their connect times.
#[derive(Clone)]
pub(crate) struct SessionRegistrar {
    recorder: Arc<SessionRecorder>,
    ocserv: Ocserv,
}

impl SessionRegistrar {
    /// Creates a registrar that gets connect times from `ocserv` and records with `recorder`.
    pub(crate) fn new(recorder: Arc<SessionRecorder>, ocserv: Ocserv) -> Self {
        Self { recorder, ocserv }
    }

    /// Records each session as started. Without ocserv's connect time a session has its login's
    /// time.
    pub(crate) async fn register(&self, batch: Vec<PendingSession>) {
        if batch.is_empty() {
            return;
        }
        let logins: Vec<&Login> = batch.iter().map(|session| &*session.login).collect();
        let mut times = self.ocserv.connect_times(&logins, CONNECT_TIMES_TIMEOUT).await;
        if times.iter().all(Option::is_none) {
            // One late answer must not cost a whole batch its connect times.
            times = self.ocserv.connect_times(&logins, CONNECT_TIMES_TIMEOUT).await;
        }
        for (session, connected_at) in batch.into_iter().zip(times) {
            self.recorder
                .session_started(session.handle, session.source, connected_at);
        }
    }

    /// Records a session as started, without a request to ocserv.
    pub(crate) fn register_without_time(&self, session: PendingSession) {
        self.recorder
            .session_started(session.handle, session.source, None);
    }
}
