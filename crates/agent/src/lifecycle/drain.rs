//! Everything that runs, and stopping it in order under one deadline.

use std::io;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Outcome, notify};
use crate::clock;
use crate::operations::shared_outbox::SharedOutbox;

/// How long a stop may take beyond the time within which a login is answered.
const BEYOND_LOGINS: Duration = Duration::from_secs(7);
/// How long calls of the portal that are under way may take to end.
const CALLS_WITHIN: Duration = Duration::from_secs(3);

/// Tasks that belong together, and what ends them.
#[derive(Default)]
pub(super) struct Part {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Part {
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Everything that runs, in the order in which it stops.
pub(super) struct Running {
    /// The gRPC server and what else may end a session.
    pub(super) calls: Part,
    /// Cancelled when the IPC server is to stop.
    pub(super) stop_ipc: CancellationToken,
    /// Questions to the portal.
    pub(super) questions: Part,
    /// The decisions' copy on disk.
    pub(super) storing: Part,
    /// Events on their way to the portal.
    pub(super) deliveries: Part,
    /// The connection to the portal, and whatever else lives as long as the process.
    pub(super) whole: Part,
    pub(super) outbox: SharedOutbox,
}

impl Running {
    /// Nothing but `whole` runs yet.
    pub(super) fn new(whole: Part, outbox: SharedOutbox) -> Self {
        Self {
            calls: Part::default(),
            stop_ipc: CancellationToken::new(),
            questions: Part::default(),
            storing: Part::default(),
            deliveries: Part::default(),
            whole,
            outbox,
        }
    }

    /// Not ready, then no new calls, then every login that has come is answered, which may take as long as `login`, then
    /// the decisions are stored, then the events, then the portal.
    pub(super) async fn drain(self, ipc: Option<JoinHandle<io::Result<()>>>, login: Duration) -> Outcome {
        let within = login + BEYOND_LOGINS;
        notify::stopping("draining", within);
        let by = clock::now() + within;
        let drained = timeout_at(by, self.in_order(ipc)).await.is_ok();
        let pending_events = self.outbox.stats().pending;
        if !drained {
            tracing::error!(
                ?within,
                pending_events,
                "stopping took too long: the rest is left behind"
            );
            return Outcome::CutShort;
        }
        tracing::info!("agent has stopped");
        if pending_events == 0 {
            Outcome::Drained
        } else {
            Outcome::CutShort
        }
    }

    async fn in_order(&self, ipc: Option<JoinHandle<io::Result<()>>>) {
        // A caller that keeps its call open must not keep logins waiting.
        let calls = async {
            if timeout(CALLS_WITHIN, self.calls.end()).await.is_err() {
                tracing::warn!(within = ?CALLS_WITHIN, "calls of the portal did not end: leaving them behind");
            }
        };
        let logins = async {
            self.stop_ipc.cancel();
            if let Some(ipc) = ipc {
                match ipc.await {
                    Ok(Ok(())) => tracing::info!("all logins are answered"),
                    Ok(Err(error)) => tracing::error!(%error, "the IPC server failed at the end"),
                    Err(error) => tracing::error!(%error, "the IPC server failed at the end"),
                }
            }
        };
        tokio::join!(calls, logins);

        // Nobody waits for a decision any more; what was learned by now is stored.
        self.questions.end().await;
        self.storing.end().await;
        self.deliveries.end().await;
        self.whole.end().await;
    }
}

#[cfg(test)]
mod tests;
