//! Disconnects the sessions of users whom the policy source denied with the demand to end them.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use ocserv_agent_model::{DisconnectReason, error_chain};
use resilience::CacheKey;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::operations::disconnect_user::DisconnectUser;

/// Most requests that wait.
const MAX_WAITING: usize = 1_024;
/// Most requests in progress. Each revokes its user at once and then waits for ocserv, where fewer
/// are served at once.
const MAX_CONCURRENT: usize = 1_024;
/// How often the sessions of one user are tried to be disconnected, and the pause in between.
const MAX_ATTEMPTS: u32 = 5;
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// A user whose sessions must end.
#[derive(Debug)]
pub(crate) struct DisconnectRequest {
    /// The denied login.
    pub(crate) key: CacheKey,
    /// Why, for the log and the revocation.
    pub(crate) reason: String,
}

/// Accepts requests; clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct DisconnectQueue(mpsc::Sender<DisconnectRequest>);

/// The requests that wait, for the job.
pub(crate) type DisconnectRequests = mpsc::Receiver<DisconnectRequest>;

impl DisconnectQueue {
    /// Creates a queue without requests.
    pub(crate) fn new() -> (Self, DisconnectRequests) {
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        (Self(sender), requests)
    }

    /// Adds a request without waiting. A full queue drops it: the user stays denied, and the next
    /// answer of the policy source repeats the request.
    pub(crate) fn push(&self, request: DisconnectRequest) {
        if let Err(error) = self.0.try_send(request) {
            tracing::warn!(%error, "could not queue the disconnect of a denied user");
        }
    }
}

/// Works on `requests` until `stop`.
pub(crate) async fn disconnect_denied_users(
    mut requests: DisconnectRequests,
    disconnect_user: DisconnectUser,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let requests = stream::poll_fn(|cx| requests.poll_recv(cx)).take_until(stop.cancelled());
    let work = |request| async { disconnect_with_retries(request, &disconnect_user, &metrics, &stop).await };
    requests.for_each_concurrent(MAX_CONCURRENT, work).await;
}

async fn disconnect_with_retries(
    request: DisconnectRequest,
    disconnect_user: &DisconnectUser,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    for attempt in 1..=MAX_ATTEMPTS {
        if !disconnect_user.deny_stands(&request.key) {
            let user = request.key.username.as_str();
            tracing::info!(target: "session", user, "sessions of a denied user stay: the user was allowed again");
            return;
        }
        let is_last = attempt == MAX_ATTEMPTS;
        if disconnect(&request, disconnect_user, metrics, is_last).await || is_last {
            return;
        }
        if stop.run_until_cancelled(sleep(RETRY_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Returns whether no session is left to be disconnected.
async fn disconnect(
    DisconnectRequest { key, reason }: &DisconnectRequest,
    disconnect_user: &DisconnectUser,
    metrics: &Metrics,
    is_last: bool,
) -> bool {
    let user = key.username.as_str();
    let summary = disconnect_user.run(&key.username, false, DisconnectReason::PolicyViolation, reason);
    let error = match summary.await {
        Ok(summary) => {
            for _ in 0..summary.disconnected {
                metrics.session_revoked();
            }
            if summary.disconnected > 0 {
                let sessions = summary.disconnected;
                tracing::info!(target: "session", user, sessions, reason, "sessions of a denied user revoked");
            }
            match summary.failed.first() {
                Some((_, error)) => error_chain(error),
                None => return summary.pending.is_empty(),
            }
        }
        Err(error) => error_chain(&error),
    };
    if is_last {
        tracing::error!(target: "session", user, reason, error, "could not disconnect the sessions of a denied user");
    }
    false
}

#[cfg(test)]
mod tests;
