//! Making ocserv forget logins, so that no cookie brings a client back without a password.
//!
//! ocserv can do that from 1.4.2 on, by `terminate`, which loses the byte counts of a session that is still up. So a
//! session is ended first, and its login is forgotten once the session is gone. Older releases void the cookie of a
//! session that is disconnected, and offer nothing for a login without a connection.

use std::time::Duration;

use occtl::{ControlError, Cookie, LoginState, SafeId, Session, reports_session_start};
use ocserv_agent_model::{Username, error_chain};
use tokio::time::{sleep, timeout};

use super::{LOOK_EVERY, LiveSession, Ocserv};

/// How long a session may take to go after it was told to. Workers are gone within a second.
pub(super) const GOES_WITHIN: Duration = Duration::from_secs(5);

/// One start of ocserv: the main process's pid and when it began.
type Start = (u32, u64);

/// Whether the ocserv of one start knows `terminate`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    start: Start,
    terminate: bool,
}

impl Ocserv {
    /// Makes ocserv forget the logins of `username` that no connection uses: their clients could come back without a
    /// password. Says how many there were. An ocserv before 1.4.2 cannot, and is left alone.
    ///
    /// # Errors
    /// When ocserv does not answer; some may have been forgotten by then.
    pub async fn forget_logins(&self, username: &Username) -> Result<usize, ControlError> {
        let mut logins = self.control.cookies().await?;
        logins.retain(|login| is_detached(login) && login.username_bytes == username.as_str().as_bytes());
        if logins.is_empty() {
            return Ok(0);
        }
        let tells_start = reports_session_start(&self.control.list().await?);
        if !self.knows_terminate(tells_start).await? {
            return Ok(0);
        }
        let mut forgotten = 0;
        for login in logins.iter().filter_map(|login| login.safe_id.as_ref()) {
            forgotten += usize::from(self.control.terminate_session(login).await?);
        }
        let user = username.as_str();
        tracing::info!(target: "session", user, forgotten, "ocserv forgot logins that no connection uses");
        Ok(forgotten)
    }

    /// Makes ocserv forget the login of `session`, which was told to end, once it is gone. One that stays is ended for
    /// good, without its byte counts. A failure is logged: the session's end is what was asked for.
    pub(super) async fn forget_login_of(&self, session: &LiveSession) {
        let Some(login) = &session.row.safe_id else { return };
        let (id, uid) = (session.id, &session.uid);
        match self.forget_after(session, login).await {
            Ok(()) => {}
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(%id, %uid, error, "ocserv may not have forgotten the login of a session that was ended");
            }
        }
    }

    async fn forget_after(&self, session: &LiveSession, login: &SafeId) -> Result<(), ControlError> {
        if !self.knows_terminate(Some(session.row.has_session_start)).await? {
            return Ok(());
        }
        match timeout(self.goes_within, self.gone(session)).await {
            Ok(gone) => gone?,
            Err(_) => {
                let (id, uid) = (session.id, &session.uid);
                tracing::warn!(%id, %uid, within = ?self.goes_within, "a session did not end: it is cut off, its byte counts are lost");
            }
        }
        // "No such login" is what disconnecting may have brought about already.
        self.control.terminate_session(login).await.map(drop)
    }

    /// Waits until ocserv does not list the connection of `session` any more. The login and the time tell it: for a
    /// moment at the end ocserv lists it without its number.
    async fn gone(&self, session: &LiveSession) -> Result<(), ControlError> {
        let is_there = |row: &Session| {
            row.safe_id == session.row.safe_id && row.connected_at == Some(session.connected_at)
        };
        while self.control.list().await?.iter().any(is_there) {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether this ocserv knows `terminate`: asked once for each start of it, because one that does not know the
    /// request writes an error to its log. `tells_start` is what its list shows for nothing: an ocserv that does not
    /// tell when a login began is older and is not asked.
    async fn knows_terminate(&self, tells_start: Option<bool>) -> Result<bool, ControlError> {
        if tells_start == Some(false) {
            return Ok(false);
        }
        let status = self.control.status().await?;
        let start = status.main_pid.zip(status.started_at);
        let known = *self.known();
        if let Some(known) = known.filter(|known| Some(known.start) == start) {
            return Ok(known.terminate);
        }
        let terminate = self.control.knows_terminate().await?;
        *self.known() = start.map(|start| Known { start, terminate });
        Ok(terminate)
    }
}

/// Whether a client could use this login and no connection does.
fn is_detached(login: &Cookie) -> bool {
    let over_or_not_begun = matches!(
        login.state,
        LoginState::PreAuth | LoginState::Authenticating | LoginState::Failed
    );
    login.in_use != Some(true) && !over_or_not_begun
}
