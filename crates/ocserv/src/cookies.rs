//! Invalidating cookies, so that no client reconnects without a password.
//!
//! ocserv does that from 1.4.2 on, with `terminate`, which loses the byte counts of a session that
//! is still connected. So a session is disconnected first, and its cookie is invalidated once the
//! session is gone. Older releases void the cookie of a session that is disconnected, and offer
//! nothing for a detached one.

use occtl::{ControlError, Cookie, LoginState, SafeId, reports_session_start};
use ocserv_agent_model::{Username, error_chain};
use tokio::time::timeout;

use crate::server::Ocserv;
use crate::session::LiveSession;

impl Ocserv {
    /// Invalidates the cookies of `username` that no connection uses. Returns how many; always 0
    /// before ocserv 1.4.2, which cannot do it.
    ///
    /// # Errors
    /// When ocserv does not answer; some may have been invalidated by then.
    pub async fn invalidate_detached_cookies(&self, username: &Username) -> Result<usize, ControlError> {
        let mut cookies = self.control.cookies().await?;
        cookies.retain(|cookie| is_detached(cookie) && cookie.username_bytes == username.as_str().as_bytes());
        if cookies.is_empty() {
            return Ok(0);
        }
        let reports_session_start = reports_session_start(&self.control.list().await?);
        if !self.terminate.check(&self.control, reports_session_start).await? {
            return Ok(0);
        }
        let mut invalidated = 0;
        for safe_id in cookies.iter().filter_map(|cookie| cookie.safe_id.as_ref()) {
            invalidated += usize::from(self.control.terminate_session(safe_id).await?);
        }
        let user = username.as_str();
        tracing::info!(target: "session", user, invalidated, "detached cookies invalidated");
        Ok(invalidated)
    }

    /// Invalidates the cookie of `session`, which was told to disconnect, once it is gone. A
    /// session that stays is terminated, without its byte counts. A failure is logged: the
    /// disconnect is what was asked for.
    pub(crate) async fn invalidate_cookie_of(&self, session: &LiveSession) {
        let Some(cookie) = &session.row.safe_id else {
            return;
        };
        if let Err(error) = self.invalidate_once_gone(session, cookie).await {
            let (id, uid, error) = (session.id, &session.uid, error_chain(&error));
            tracing::warn!(%id, %uid, error, "the cookie of a disconnected session may still be valid");
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
        // `false`: the disconnect has removed the cookie already.
        self.control.terminate_session(cookie).await.map(drop)
    }
}

/// Whether a client could use this cookie and no connection does.
fn is_detached(cookie: &Cookie) -> bool {
    let is_unusable = matches!(
        cookie.state,
        LoginState::PreAuth | LoginState::Authenticating | LoginState::Failed
    );
    cookie.in_use != Some(true) && !is_unusable
}
