//! Stopping in order, under one deadline.

use std::io;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Outcome, notify};
use crate::clock;
use crate::events::Events;
use crate::grpc::Health;

/// How long a stop may take.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// How long calls of the portal that are under way may take to end.
const CALLS_WITHIN: Duration = Duration::from_secs(3);
/// How long the events that still wait are offered to the portal.
pub(super) const LAST_CALL: Duration = Duration::from_secs(3);

/// Everything that runs, by the part that it belongs to.
pub(super) struct Running {
    pub(super) tasks: TaskTracker,
    pub(super) questions: TaskTracker,
    pub(super) storing: TaskTracker,
    pub(super) deliveries: TaskTracker,
    pub(super) calls: TaskTracker,
    pub(super) events: Events,
    pub(super) health: Option<Health>,
    pub(super) stop_grpc: CancellationToken,
    pub(super) stop_ipc: CancellationToken,
    pub(super) stop_questions: CancellationToken,
    pub(super) stop_storing: CancellationToken,
    pub(super) stop_events: CancellationToken,
    pub(super) stop: CancellationToken,
}

impl Running {
    /// Not ready, then no new calls, then every login that has come is answered, then the decisions are stored, then the
    /// events, then the portal.
    pub(super) async fn drain(self, ipc: Option<JoinHandle<io::Result<()>>>) -> Outcome {
        notify::stopping("draining");
        let by = clock::now() + DRAIN_WITHIN;
        let events = self.events.clone();
        if timeout_at(by, self.in_order(ipc)).await.is_ok() {
            tracing::info!("agent has stopped");
            Outcome::Drained
        } else {
            let pending_events = events.counts().pending;
            tracing::error!(within = ?DRAIN_WITHIN, pending_events, "stopping took too long: the rest is left behind");
            Outcome::CutShort
        }
    }

    async fn in_order(self, ipc: Option<JoinHandle<io::Result<()>>>) {
        if let Some(health) = &self.health {
            health.stopping().await;
        }
        self.stop_grpc.cancel();
        self.calls.close();
        // A caller that keeps its call open must not keep logins waiting.
        let calls = async {
            if timeout(CALLS_WITHIN, self.calls.wait()).await.is_err() {
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
        self.stop_questions.cancel();
        self.questions.close();
        self.questions.wait().await;
        self.stop_storing.cancel();
        self.storing.close();
        self.storing.wait().await;

        self.stop_events.cancel();
        self.deliveries.close();
        self.deliveries.wait().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
