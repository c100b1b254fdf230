//! One ocserv, identified by its control socket, and its list of connections.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use occtl::{ControlError, ControlSocket, Cookie, Observer, Session, Status};
use ocserv_agent_model::{OcservId, Username};

use crate::pacer::Pacer;
use crate::session::LiveSession;
use crate::shared_list::SharedList;
use crate::terminate::TerminateSupport;
use crate::version::VersionCache;

/// Longest time that a session may stay listed after its disconnect. Workers exit within a second.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest time between two requests to disconnect: each ends a worker and starts a script.
const DISCONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// The settings of one ocserv.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path of the control socket (`occtl-socket-file`).
    pub socket: PathBuf,
    /// Time limit of one request on it.
    pub request_timeout: Duration,
    /// The server's name, which is part of every session UID.
    pub agent_id: String,
}

/// One ocserv; clones share it.
#[derive(Debug, Clone)]
pub struct Ocserv {
    pub(crate) control: ControlSocket,
    agent_id: Arc<str>,
    connections: SharedList<Session>,
    cookies: SharedList<Cookie>,
    /// Spaces out requests to disconnect.
    pub(crate) disconnects: Arc<Pacer>,
    pub(crate) terminate: Arc<TerminateSupport>,
    version: VersionCache,
    pub(crate) gone_timeout: Duration,
}

impl Ocserv {
    /// Creates a client, which connects for each request.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            control: ControlSocket::new(settings.socket, settings.request_timeout),
            agent_id: settings.agent_id.into(),
            connections: SharedList::default(),
            cookies: SharedList::default(),
            disconnects: Arc::new(Pacer::new(DISCONNECT_INTERVAL)),
            terminate: Arc::default(),
            version: VersionCache::default(),
            gone_timeout: GONE_TIMEOUT,
        }
    }

    /// Reports the outcome of each request to `observer`.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        Self {
            control: self.control.with_observer(observer),
            ..self
        }
    }

    /// Returns ocserv's own status; a reply shows that its main process works.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.control.status().await
    }

    /// Returns the version of the program that this ocserv was started with; `None` where it cannot
    /// be determined. `status` is its last one.
    pub async fn version(&self, status: &Status) -> Option<Arc<str>> {
        self.version.of(status.main_pid?).await
    }

    /// Lists the connected sessions, without logins whose connect-script still runs.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn sessions(&self) -> Result<Vec<LiveSession>, ControlError> {
        Ok(self.connected(&self.list().await?))
    }

    /// Lists all connections of `username`: sessions, and logins whose connect-script still runs.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn connections_of(&self, username: &Username) -> Result<Vec<LiveSession>, ControlError> {
        let rows = self.list().await?;
        let theirs = rows
            .iter()
            .filter(|row| row.username_bytes == username.as_str().as_bytes());
        Ok(theirs.filter_map(|row| self.identify(row.clone())).collect())
    }

    /// Returns the connection with `id`, in whatever state.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn connection(&self, id: OcservId) -> Result<Option<LiveSession>, ControlError> {
        let row = self.control.id(id.get()).await?;
        Ok(row.and_then(|row| self.identify(row)))
    }

    /// Lists all connections, in whatever state. Callers share requests, at most five a second.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub async fn list(&self) -> Result<Arc<[Session]>, ControlError> {
        let control = self.control.clone();
        let fetch = || async move { control.list().await }.boxed();
        self.connections.get(fetch).await
    }

    /// Lists all cookies. Callers share requests, at most five a second.
    pub(crate) async fn cookies(&self) -> Result<Arc<[Cookie]>, ControlError> {
        let control = self.control.clone();
        let fetch = || async move { control.cookies().await }.boxed();
        self.cookies.get(fetch).await
    }

    /// Returns the connected sessions of a list.
    #[must_use]
    pub fn connected(&self, rows: &[Session]) -> Vec<LiveSession> {
        let connected = rows.iter().filter(|row| row.is_connected());
        connected.filter_map(|row| self.identify(row.clone())).collect()
    }

    fn identify(&self, row: Session) -> Option<LiveSession> {
        let id = row.id;
        let session = LiveSession::from_row(&self.agent_id, row);
        if session.is_none() {
            tracing::warn!(id, "ocserv lists a session without an id or a connect time");
        }
        session
    }
}

#[cfg(test)]
mod tests;
