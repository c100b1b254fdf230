//! Disconnects a user or one session.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use authz::Authorizer;
use futures_util::{StreamExt as _, stream};
use occtl::ControlError;
use ocserv::{LiveSession, Ocserv};
use ocserv_agent_model::{DisconnectReason, OcservId, Username};
use resilience::CacheKey;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::operations::record_session::SessionRecorder;
use crate::operations::store_status::{NotStored, StoreStatus};

/// Longest time that an admitted login may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most sessions of one user that are disconnected at once.
const MAX_CONCURRENT: usize = 16;
/// Most users whose sessions are disconnected at once; the others wait, revoked.
const MAX_USERS: usize = 64;

/// Disconnects a user, or one session of a user; clones share everything.
///
/// Both first revoke the cached decisions about the user, because a disconnected client reconnects
/// at once. Then they disconnect each session whose identity ocserv confirms, set the reason of its
/// disconnect event, and wait until the revocation is on disk; a disk that fails or hangs delays no
/// disconnect. They differ on purpose:
///
/// - [`run`](Self::run) applies to an account (`DisconnectUser`). It disconnects all sessions,
///   waits for admitted logins and disconnects them too, and invalidates the cookies that no
///   connection uses. It fails when ocserv does not list its sessions, so that the caller can
///   retry.
/// - [`run_for_session`](Self::run_for_session) applies to one session (`ValidateSession`). Other
///   sessions of the user are validated on their own. Cookies that no connection uses stay valid,
///   because a reconnect is authorized again. A session whose username is invalid has no cached
///   decision, and is disconnected all the same.
#[derive(Clone)]
pub(crate) struct DisconnectUser {
    ocserv: Ocserv,
    recorder: Arc<SessionRecorder>,
    authorizer: Authorizer,
    /// `None` where decisions are not stored.
    store: Option<StoreStatus>,
    users: Arc<Semaphore>,
    connect_timeout: Duration,
}

/// The outcome of disconnecting a user.
#[derive(Debug)]
pub(crate) struct DisconnectSummary {
    /// Sessions and admitted logins that ocserv listed.
    pub(crate) found: usize,
    /// Those that were disconnected. The others ended by themselves, are pending or failed.
    pub(crate) disconnected: u32,
    /// Logins whose connect-script did not end in time: they may still connect.
    pub(crate) pending: Vec<OcservId>,
    /// Sessions that could not be disconnected.
    pub(crate) failed: Vec<(OcservId, ControlError)>,
    /// Invalidated cookies that no connection used.
    pub(crate) detached_cookies: Result<usize, ControlError>,
    /// Whether the revocation is on disk; else a restart of the agent may lose it.
    pub(crate) stored: Result<(), NotStored>,
}

impl DisconnectSummary {
    /// Returns what is left of the user: sessions, pending logins, cookies, a revocation that is
    /// not stored; also that there was nothing to disconnect.
    pub(crate) fn problems(&self) -> Vec<String> {
        let failed = self.failed.iter();
        let mut problems: Vec<String> = failed
            .map(|(id, error)| format!("could not disconnect session {id}: {error}"))
            .collect();
        let pending = self.pending.iter();
        problems.extend(pending.map(|id| format!("login {id} is still in its connect-script: try again")));
        match &self.detached_cookies {
            Ok(0) if self.found == 0 => problems.push("the user has no session".to_owned()),
            Ok(_) => {}
            Err(error) => problems.push(format!("could not invalidate the user's cookies: {error}")),
        }
        if let Err(error) = &self.stored {
            problems.push(format!(
                "a restart of the agent would lose the revocation: {error}"
            ));
        }
        problems
    }
}

/// Why no session was disconnected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DisconnectError {
    #[error("the user has {0} sessions")]
    SeveralSessions(usize),
    #[error("ocserv does not answer")]
    Ocserv(#[from] ControlError),
}

/// An allowed login, whose session may not be connected yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AdmittedLogin {
    id: OcservId,
    /// When it was allowed.
    at: SystemTime,
}

/// The outcome for one session or login.
enum SessionOutcome {
    Disconnected,
    /// The session ended by itself, or the login's connect-script failed.
    Ended,
    /// The login's connect-script did not end in time.
    Pending,
}

impl DisconnectUser {
    pub(crate) fn new(
        ocserv: Ocserv,
        recorder: Arc<SessionRecorder>,
        authorizer: Authorizer,
        store: Option<StoreStatus>,
    ) -> Self {
        Self {
            ocserv,
            recorder,
            authorizer,
            store,
            users: Arc::new(Semaphore::new(MAX_USERS)),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// Disconnects all sessions and admitted logins of `username`; with `only_one`, fails when
    /// there are several sessions. `reason` is for the disconnect events, `note` for the
    /// revocation. Without `only_one` the user is revoked before anything waits.
    pub(crate) async fn run(
        &self,
        username: &Username,
        only_one: bool,
        reason: DisconnectReason,
        note: &str,
    ) -> Result<DisconnectSummary, DisconnectError> {
        if only_one {
            self.check_only_one(username).await?;
        }
        let admitted = self.revoke(username, note);
        let (stored, summary) = tokio::join!(
            self.store_revocation(),
            self.disconnect_all(username, &admitted, reason),
        );
        let mut summary = summary?;
        summary.stored = stored;
        Ok(summary)
    }

    /// Whether the deny of a login with `key` still stands: the user was not allowed since.
    pub(crate) fn deny_stands(&self, key: &CacheKey) -> bool {
        self.authorizer.deny_stands(key)
    }

    /// Revokes `username` and disconnects nothing; waits for nothing.
    pub(crate) fn revoke_only(&self, username: &Username, note: &str) {
        self.authorizer.revoke_user(username, note);
    }

    /// Disconnects the sessions and admitted logins of `username` and invalidates the cookies, once
    /// there is room.
    async fn disconnect_all(
        &self,
        username: &Username,
        admitted: &[AdmittedLogin],
        reason: DisconnectReason,
    ) -> Result<DisconnectSummary, ControlError> {
        // Never closed, so this does not fail.
        let _permit = self.users.acquire().await;
        let mut summary = self.disconnect_connections(username, admitted, reason).await?;
        summary.detached_cookies = self.ocserv.invalidate_detached_cookies(username).await;
        Ok(summary)
    }

    /// Disconnects `session`; returns `false` when it had ended. `reason` is for the disconnect
    /// event, `note` for the revocation.
    pub(crate) async fn run_for_session(
        &self,
        session: &LiveSession,
        reason: DisconnectReason,
        note: &str,
    ) -> Result<bool, ControlError> {
        if let Ok(username) = Username::parse(&session.username) {
            self.revoke(&username, note);
        }
        let (stored, disconnected) =
            tokio::join!(self.store_revocation(), self.disconnect_session(session, reason));
        if let Err(error) = stored {
            tracing::warn!(target: "session", user = session.username, id = %session.id, %error, "revocation is not stored yet: a restart would lose it");
        }
        disconnected
    }

    /// Waits until the revocations so far are on disk.
    async fn store_revocation(&self) -> Result<(), NotStored> {
        match &self.store {
            Some(store) => store.store_now().await,
            None => Ok(()),
        }
    }

    async fn check_only_one(&self, username: &Username) -> Result<(), DisconnectError> {
        let connections = self.ocserv.connections_of(username).await?;
        let connected = connections
            .iter()
            .filter(|connection| connection.row.is_connected());
        match connected.count() {
            0 | 1 => Ok(()),
            several => Err(DisconnectError::SeveralSessions(several)),
        }
    }

    /// Revokes the decisions about `username`; returns the logins that were allowed recently.
    fn revoke(&self, username: &Username, note: &str) -> Vec<AdmittedLogin> {
        let records = self.authorizer.revoke_user(username, note);
        let admitted = records.iter().map(|record| AdmittedLogin {
            id: record.id,
            at: record.at,
        });
        admitted.collect()
    }

    /// Disconnects the sessions of `username`, and those of `admitted` that ocserv lists, once they
    /// are connected.
    async fn disconnect_connections(
        &self,
        username: &Username,
        admitted: &[AdmittedLogin],
        reason: DisconnectReason,
    ) -> Result<DisconnectSummary, ControlError> {
        let mut connections = self.ocserv.connections_of(username).await?;
        connections.retain(|connection| connection.row.is_connected() || is_admitted(connection, admitted));
        let mut summary = DisconnectSummary {
            found: connections.len(),
            disconnected: 0,
            pending: Vec::new(),
            failed: Vec::new(),
            detached_cookies: Ok(0),
            stored: Ok(()),
        };
        let disconnects = stream::iter(connections).map(|connection| async move {
            (
                connection.id,
                self.disconnect_once_connected(&connection, reason).await,
            )
        });
        let mut outcomes = disconnects.buffer_unordered(MAX_CONCURRENT);
        while let Some((id, outcome)) = outcomes.next().await {
            match outcome {
                Ok(SessionOutcome::Disconnected) => summary.disconnected += 1,
                Ok(SessionOutcome::Ended) => {}
                Ok(SessionOutcome::Pending) => summary.pending.push(id),
                Err(error) => summary.failed.push((id, error)),
            }
        }
        Ok(summary)
    }

    async fn disconnect_once_connected(
        &self,
        connection: &LiveSession,
        reason: DisconnectReason,
    ) -> Result<SessionOutcome, ControlError> {
        if !connection.row.is_connected() {
            let connected = self.ocserv.wait_connected(connection);
            match timeout(self.connect_timeout, connected).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(SessionOutcome::Ended),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(SessionOutcome::Pending),
            }
        }
        Ok(match self.disconnect_session(connection, reason).await? {
            true => SessionOutcome::Disconnected,
            false => SessionOutcome::Ended,
        })
    }

    /// Disconnects a session that is still the same; returns `false` when it had ended.
    async fn disconnect_session(
        &self,
        session: &LiveSession,
        reason: DisconnectReason,
    ) -> Result<bool, ControlError> {
        let Some(confirmed) = self.ocserv.confirm(session).await? else {
            return Ok(false);
        };
        // First, because the disconnect-script may report before ocserv replies.
        self.recorder.expect_end(session.id, reason);
        let disconnected = self.ocserv.disconnect(&confirmed).await;
        // One that had ended meanwhile was, as a rule, disconnected by another call.
        if disconnected.is_err() {
            self.recorder
                .expect_end(session.id, DisconnectReason::Unspecified);
        }
        disconnected
    }
}

/// Returns whether `connection` is one of `admitted`: a login with its id that was allowed after
/// ocserv accepted it.
fn is_admitted(connection: &LiveSession, admitted: &[AdmittedLogin]) -> bool {
    admitted
        .iter()
        .any(|login| login.id == connection.id && login.at >= connection.connect_time())
}

#[cfg(test)]
mod tests;
