//! Compares the agent's sessions with ocserv's list, so that every session is reported whatever no
//! script said; and shows by the same request whether ocserv answers.
//!
//! The list is asked for at the start and at an interval. A session that is missing is looked for
//! once more before it has ended: its disconnect-script, which has the byte counts, is a little
//! later than the list. The list that is due for it also begins a pass over all sessions, which
//! validates them and reports their usage; see [`super::validate_sessions`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use occtl::{ControlError, Session};
use ocserv::Ocserv;
use ocserv_agent_model::{OcservId, error_chain};
use sessions::{ListedSession, Plan};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::persist_events::StoredRows;
use super::validate_sessions::SessionsPass;
use crate::clock;
use crate::operations::notifications::Notifications;
use crate::operations::record_session::SessionRecorder;
use crate::operations::resync::ValidationRequest;

/// Longest time that the start waits for ocserv's list: a hung ocserv must not delay logins.
const START_TIMEOUT: Duration = Duration::from_millis(500);

/// The settings of the comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReconcileSettings {
    /// Time between two lists.
    pub(crate) poll_interval: Duration,
    /// Time between two passes over all sessions.
    pub(crate) sync_interval: Duration,
    /// A session that ocserv could not confirm for this long has ended.
    pub(crate) ttl: Duration,
    /// A session is idle when no byte moved for this long.
    pub(crate) idle_after: Duration,
}

/// Compares sessions with ocserv's list.
pub(crate) struct Reconciler {
    ocserv: Ocserv,
    recorder: Arc<SessionRecorder>,
    /// The sessions of an earlier run, until they are taken over.
    stored: Option<oneshot::Receiver<StoredRows>>,
    settings: ReconcileSettings,
    passes: mpsc::Sender<SessionsPass>,
    is_up: bool,
}

impl Reconciler {
    /// Creates a job that sends each pass over all sessions to `passes`.
    pub(crate) fn new(
        ocserv: Ocserv,
        recorder: Arc<SessionRecorder>,
        stored: Option<oneshot::Receiver<StoredRows>>,
        settings: ReconcileSettings,
        passes: mpsc::Sender<SessionsPass>,
    ) -> Self {
        Self {
            ocserv,
            recorder,
            stored,
            settings,
            passes,
            is_up: true,
        }
    }

    /// Takes over the sessions of an earlier run, and compares once, before logins are served.
    pub(crate) async fn start(&mut self) {
        self.restore();
        const LATER: &str = "they are known as soon as it answers";
        match timeout(START_TIMEOUT, self.compare(None)).await {
            Ok(Ok(_)) => {
                let sessions = self.recorder.live_count();
                tracing::info!(sessions, "ocserv listed its sessions");
            }
            // The agent starts first.
            Ok(Err(error)) => tracing::info!(%error, "ocserv does not list its sessions: {LATER}"),
            Err(_) => {
                tracing::warn!(limit = ?START_TIMEOUT, "ocserv does not list its sessions in time: {LATER}");
            }
        }
    }

    /// Compares at each interval until `stop`, and announces whether ocserv answers. Each of
    /// `requests` begins a pass over all sessions at once.
    pub(crate) async fn run(
        mut self,
        requests: ValidationRequest,
        notifications: Notifications,
        stop: CancellationToken,
    ) {
        let run = self.run_for_ever(&requests, &notifications);
        let _stopped = stop.run_until_cancelled(run).await;
    }

    async fn run_for_ever(&mut self, requests: &ValidationRequest, notifications: &Notifications) {
        let interval = self.settings.poll_interval.min(self.settings.sync_interval);
        let mut next_pass = clock::now() + self.settings.sync_interval;
        loop {
            tokio::select! {
                () = clock::tick(interval) => {}
                () = requests.requested() => next_pass = clock::now(),
            }
            let compared = self.poll(notifications).await;
            // The nearest list: they are not exactly an interval apart.
            if clock::now() + interval / 2 >= next_pass
                && let Some(rows) = compared
            {
                self.start_pass(&rows, next_pass).await;
                next_pass = clock::now() + self.settings.sync_interval;
            }
        }
    }

    /// Takes over the sessions of an earlier run once the disk has them: a disk that is slow delays
    /// no start.
    fn restore(&mut self) {
        if let Some(stored) = &mut self.stored
            && let Ok(rows) = stored.try_recv()
        {
            self.recorder.restore(rows);
            self.stored = None;
        }
    }

    /// Compares, and once more when sessions are missing. Logs when ocserv ceases to answer.
    async fn poll(&mut self, notifications: &Notifications) -> Option<Arc<[Session]>> {
        self.restore();
        let mut compared = self.compare(None).await;
        if let Ok((_, 1..)) = compared {
            sleep(Plan::RECHECK).await;
            compared = self.compare_again().await;
        }
        match compared {
            Ok((rows, _)) => {
                if !self.is_up {
                    tracing::info!("ocserv's control socket recovered");
                    notifications.ocserv_up();
                }
                self.is_up = true;
                Some(rows)
            }
            Err(error) => {
                if self.is_up {
                    let error = error_chain(&error);
                    tracing::warn!(error, "ocserv's control socket is unavailable");
                    notifications.ocserv_down(&error);
                }
                self.is_up = false;
                self.recorder.expire(self.settings.ttl);
                None
            }
        }
    }

    /// Compares when sessions are missing: they may have ended with an earlier process of ocserv.
    async fn compare_again(&self) -> Result<(Arc<[Session]>, usize), ControlError> {
        let started_at = self.ocserv.status().await?.started_at;
        self.compare(started_at).await
    }

    /// Compares with a new list; returns it and the number of sessions that are missing.
    async fn compare(&self, ocserv_started_at: Option<u64>) -> Result<(Arc<[Session]>, usize), ControlError> {
        let mark = self.recorder.list_mark();
        let rows = self.ocserv.list().await?;
        let listed = rows.iter().filter_map(listed);
        let missing = self.recorder.reconcile(listed, mark, ocserv_started_at);
        Ok((rows, missing))
    }

    /// Samples the usage of all sessions and begins a pass over them.
    async fn start_pass(&self, rows: &[Session], start: Instant) {
        let usage = self.ocserv.device_usage().await;
        if let Err(error) = &usage {
            let error = error_chain(error);
            tracing::debug!(error, "could not read the usage of sessions");
        }
        let updates = self
            .recorder
            .sample(usage.as_ref().ok(), self.settings.idle_after);
        let pass = SessionsPass {
            start,
            sessions: self.ocserv.connected(rows),
            updates,
        };
        if self.passes.try_send(pass).is_err() {
            tracing::warn!("the last pass over all sessions has not ended: leaving one out");
        }
    }
}

/// Returns what a row says about a connection; `None` for one that ocserv is about to remove.
fn listed(row: &Session) -> Option<ListedSession<'_>> {
    let vpn_ipv4 = row.vpn_ipv4.map(IpAddr::from);
    Some(ListedSession {
        id: OcservId::new(row.id).ok()?,
        username: row.username.as_deref().unwrap_or_default(),
        connected_at: row.connected_at?,
        is_connected: row.is_connected(),
        group: row.group.as_deref(),
        vhost: row.vhost.as_deref(),
        client_ip: row.client_ip.map(|address| address.to_canonical()),
        vpn_ip: vpn_ipv4.or_else(|| row.vpn_ipv6.map(IpAddr::from)),
        device: row.device.as_deref(),
    })
}

#[cfg(test)]
mod tests;
