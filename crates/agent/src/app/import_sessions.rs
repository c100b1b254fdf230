//! Imports the sessions that were connected before the agent started.

use std::time::Duration;

use ocserv::{LiveSession, Ocserv};
use ocserv_agent_model::{Username, VhostName};
use sessions::ExistingSession;
use tokio::time::timeout;

use crate::operations::record_session::SessionRecorder;

/// Longest time that the start waits for ocserv's list of sessions: a hung ocserv must not delay
/// logins.
const LIST_TIMEOUT: Duration = Duration::from_millis(500);

/// Imports the sessions that are connected already, so that they keep the uids that an earlier run
/// gave them.
pub(super) async fn import_sessions(ocserv: &Ocserv, recorder: &SessionRecorder) {
    const WITHOUT: &str = "sessions that are connected already are unknown until they disconnect";
    let sessions = match timeout(LIST_TIMEOUT, ocserv.sessions()).await {
        Ok(Ok(sessions)) => sessions,
        Ok(Err(error)) => {
            // The agent starts first; a probe warns when ocserv is not there 10 s later.
            tracing::info!(%error, "ocserv does not list its sessions: {WITHOUT}");
            return;
        }
        Err(_) => {
            tracing::warn!(limit = ?LIST_TIMEOUT, "ocserv does not list its sessions in time: {WITHOUT}");
            return;
        }
    };
    let existing = |session: LiveSession| {
        Some(ExistingSession {
            id: session.id,
            username: Username::parse(session.row.username.as_deref()?).ok()?,
            connected_at: session.connected_at,
            vhost: session
                .row
                .vhost
                .as_deref()
                .and_then(|name| VhostName::parse(name).ok()),
        })
    };
    recorder.import(sessions.into_iter().filter_map(existing));
    tracing::info!(sessions = recorder.live_count(), "ocserv listed its sessions");
}
