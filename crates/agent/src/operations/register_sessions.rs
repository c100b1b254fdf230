//! Registers allowed logins as sessions, many with one request to ocserv.
//!
//! A session's uid holds the second at which ocserv accepted the connection, and only ocserv knows it.
//! One request per login would load ocserv's single main process while it is busiest.

use std::sync::Arc;
use std::time::Duration;

use ocserv::Ocserv;
use ocserv_agent_model::{Login, Source};
use sessions::LoginHandle;

use super::record_session::SessionRecorder;

/// Longest time for ocserv's answers. A shutdown waits for them, and an event is worth more than its
/// exact second.
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
    /// Creates a registrar that asks `ocserv` and records with `recorder`.
    pub(crate) fn new(recorder: Arc<SessionRecorder>, ocserv: Ocserv) -> Self {
        Self { recorder, ocserv }
    }

    /// Records each session as started. Where ocserv gives no connect time, the login's time stands
    /// in for it.
    pub(crate) async fn register(&self, batch: Vec<PendingSession>) {
        if batch.is_empty() {
            return;
        }
        let logins: Vec<&Login> = batch.iter().map(|session| &*session.login).collect();
        let times = self.ocserv.connect_times(&logins, CONNECT_TIMES_TIMEOUT).await;
        for (session, connected_at) in batch.into_iter().zip(times) {
            self.recorder
                .session_started(session.handle, session.source, connected_at);
        }
    }

    /// Records one session as started without asking ocserv.
    pub(crate) fn register_without_time(&self, session: PendingSession) {
        self.recorder
            .session_started(session.handle, session.source, None);
    }
}
