//! Invalidates cookies, so that no client reconnects without authenticating.
//!
//! ocserv can do that from 1.4.2 on, with `terminate`, which loses the byte counts of a session
//! that is still connected. So a session is disconnected first, and its cookie is invalidated once
//! the session is no longer listed. Older releases invalidate the cookie of a session that is
//! disconnected, and have no request for a detached one.

use occtl::{Command, ControlError, Cookie, LoginState, SafeId, reports_session_start};
use ocserv_agent_model::{Username, error_chain};
use tokio::time::timeout;

use crate::server::Ocserv;
use crate::session::LiveSession;

impl Ocserv {
    /// Invalidates the cookies of `username` that no connection uses. Returns how many; always 0
    /// before ocserv 1.4.2, which cannot do it.
    ///
    /// # Errors
    /// When ocserv does not reply; some cookies may be invalid by then.
    /// [`ControlError::Declined`] when ocserv left one valid.
    pub async fn invalidate_detached_cookies(&self, username: &Username) -> Result<usize, ControlError> {
        let cookies = self.cookies().await?;
        let detached = cookies
            .iter()
            .filter(|cookie| is_detached(cookie) && cookie.username_bytes == username.as_str().as_bytes());
        let detached: Vec<&SafeId> = detached.filter_map(|cookie| cookie.safe_id.as_ref()).collect();
        if detached.is_empty() {
            return Ok(0);
        }
        let reports_session_start = reports_session_start(&self.list().await?);
        if !self.terminate.check(&self.control, reports_session_start).await? {
            return Ok(0);
        }
        let mut invalidated = 0;
        let mut unknown = Vec::new();
        for safe_id in detached {
            match self.control.terminate_session(safe_id).await? {
                true => invalidated += 1,
                false => unknown.push(safe_id),
            }
        }
        let user = username.as_str();
        tracing::info!(target: "session", user, invalidated, "detached cookies invalidated");
        let verified = self.check_invalid(&unknown).await;
        if let Err(error) = &verified {
            let error = error_chain(error);
            tracing::warn!(target: "session", user, error, "could not invalidate every detached cookie");
        }
        verified.map(|()| invalidated)
    }

    /// Invalidates the cookie of a disconnected `session` once it is no longer listed. Terminates a
    /// session that stays, without its byte counts. Logs a failure, because the disconnect itself
    /// has succeeded.
    pub(crate) async fn invalidate_cookie_of(&self, session: &LiveSession) {
        let Some(cookie) = &session.row.safe_id else {
            return;
        };
        if let Err(error) = self.invalidate_once_gone(session, cookie).await {
            let (id, uid, error) = (session.id, &session.uid, error_chain(&error));
            tracing::warn!(%id, %uid, error, "could not invalidate the cookie of a disconnected session");
        }
    }

    async fn invalidate_once_gone(&self, session: &LiveSession, cookie: &SafeId) -> Result<(), ControlError> {
        let reports_session_start = Some(session.row.has_session_start);
        if !self.terminate.check(&self.control, reports_session_start).await? {
            return Ok(());
        }
        match timeout(self.gone_timeout, self.wait_gone(session)).await {
            Ok(gone) => gone?,
            Err(_) => {
                let (id, uid) = (session.id, &session.uid);
                tracing::warn!(%id, %uid, timeout = ?self.gone_timeout, "session did not disconnect: terminating it, its byte counts are lost");
            }
        }
        if self.control.terminate_session(cookie).await? {
            return Ok(());
        }
        // As a rule, the disconnect has removed the cookie already.
        self.check_invalid(&[cookie]).await
    }

    /// Fails when ocserv still lists one of `ids`, which it did not terminate, as usable.
    async fn check_invalid(&self, ids: &[&SafeId]) -> Result<(), ControlError> {
        if ids.is_empty() {
            return Ok(());
        }
        let cookies = self.cookies().await?;
        let is_one = |cookie: &Cookie| cookie.safe_id.as_ref().is_some_and(|id| ids.contains(&id));
        match cookies.iter().any(|cookie| is_usable(cookie) && is_one(cookie)) {
            true => Err(ControlError::Declined {
                command: Command::TerminateSession,
            }),
            false => Ok(()),
        }
    }
}

/// Returns whether a client could use this cookie.
fn is_usable(cookie: &Cookie) -> bool {
    !matches!(
        cookie.state,
        LoginState::PreAuth | LoginState::Authenticating | LoginState::Failed
    )
}

/// Returns whether a client could use this cookie and no connection does.
fn is_detached(cookie: &Cookie) -> bool {
    cookie.in_use != Some(true) && is_usable(cookie)
}
