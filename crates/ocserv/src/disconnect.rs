//! Disconnects one session.

use std::time::Duration;

use occtl::{Command, ControlError, Session};
use tokio::time::sleep;

use crate::server::Ocserv;
use crate::session::{ConfirmedSession, LiveSession};

/// Pause between two requests while waiting for a login to connect.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Ocserv {
    /// Waits for the turn to disconnect `session`, then checks that it is still connected: ocserv
    /// may have reused its id since it was listed. Turns are at most 50 a second, in the order of
    /// the calls. Returns `None` when the session has ended.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn confirm(&self, session: &LiveSession) -> Result<Option<ConfirmedSession>, ControlError> {
        // Not after the check, which would be as old as the wait is long.
        self.disconnects.turn().await;
        self.check_connected(session).await
    }

    async fn check_connected(&self, session: &LiveSession) -> Result<Option<ConfirmedSession>, ControlError> {
        let current = self.connection(session.id).await?;
        let confirmed = current.filter(|current| current.row.is_connected() && current.is_same(session));
        Ok(confirmed.map(ConfirmedSession))
    }

    /// Disconnects a session, which invalidates its cookie in every release of ocserv. From 1.4.2
    /// on also waits up to 5 s until the session is no longer listed and invalidates its cookie
    /// explicitly; logs a failure of that. Returns `false` when the session had ended.
    ///
    /// # Errors
    /// When ocserv does not reply; the session may be disconnected all the same.
    /// [`ControlError::Declined`] when ocserv did nothing and the session is still connected.
    pub async fn disconnect(&self, session: &ConfirmedSession) -> Result<bool, ControlError> {
        let ConfirmedSession(session) = session;
        if self.control.disconnect_id(session.id.get()).await? {
            self.invalidate_cookie_of(session).await;
            return Ok(true);
        }
        match self.check_connected(session).await? {
            None => Ok(false),
            Some(_) => {
                let (id, uid) = (session.id, &session.uid);
                tracing::warn!(%id, %uid, "ocserv did not disconnect a connected session");
                let command = Command::DisconnectId;
                Err(ControlError::Declined { command })
            }
        }
    }

    /// Waits until `login` is a connected session; returns `false` when it has ended instead. Do
    /// not disconnect a login while its connect-script runs: ocserv would kill the script and block
    /// until it exits.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn wait_connected(&self, login: &LiveSession) -> Result<bool, ControlError> {
        loop {
            let current = self.connection(login.id).await?;
            match current.filter(|current| current.is_same(login)) {
                None => return Ok(false),
                Some(current) if current.row.is_connected() => return Ok(true),
                Some(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Waits until ocserv no longer lists `session`. The cookie and the connect time identify it,
    /// because at its end ocserv lists it briefly without its id.
    pub(crate) async fn wait_gone(&self, session: &LiveSession) -> Result<(), ControlError> {
        let is_listed = |row: &Session| {
            row.safe_id == session.row.safe_id && row.connected_at == Some(session.connected_at)
        };
        while self.list().await?.iter().any(is_listed) {}
        Ok(())
    }
}
