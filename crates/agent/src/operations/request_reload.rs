//! Requests a reload of the configuration and the certificates, as SIGHUP does.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest time that a request waits for its outcome: a file may be on a disk that hangs.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Every problem of a reload; none when everything is in effect.
pub(crate) type ReloadProblems = Vec<String>;

/// The requests, for who reloads. Each is answered with the problems.
pub(crate) type ReloadRequests = mpsc::Receiver<oneshot::Sender<ReloadProblems>>;

/// Requests reloads; clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct RequestReload(mpsc::Sender<oneshot::Sender<ReloadProblems>>);

impl RequestReload {
    /// Creates a queue without requests.
    pub(crate) fn new() -> (Self, ReloadRequests) {
        let (sender, requests) = mpsc::channel(1);
        (Self(sender), requests)
    }

    /// Reloads; returns the problems.
    pub(crate) async fn run(&self) -> ReloadProblems {
        let (answer, problems) = oneshot::channel();
        let reload = async {
            self.0.send(answer).await.ok()?;
            problems.await.ok()
        };
        match timeout(RELOAD_TIMEOUT, reload).await {
            Ok(Some(problems)) => problems,
            Ok(None) => vec!["the agent is stopping".to_owned()],
            Err(_) => vec![format!("not finished within {RELOAD_TIMEOUT:?}")],
        }
    }
}
