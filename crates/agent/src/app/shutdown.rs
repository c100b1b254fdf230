//! The groups of tasks, and ending them in order under one deadline.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::systemd;
use crate::clock;

/// Longest time of a shutdown beyond that of a login in progress.
const BEYOND_LOGINS: Duration = Duration::from_secs(7);
/// Longest time for calls of the portal that are in progress.
const CALLS_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for the last decisions, and then the last events, to be stored.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Tasks that end together, and the token that ends them.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskGroup {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Cancelled when a task panics: the agent would go on without a part of itself.
    pub(super) failed: CancellationToken,
}

impl TaskGroup {
    /// Spawns `task` on `runtime`. It ends by itself once `stop` is cancelled.
    pub(super) fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(self.guarded(task), runtime);
    }

    /// Spawns `task` on the current runtime; it is dropped when the group ends.
    pub(super) fn spawn_until_stop(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.stop.clone().run_until_cancelled_owned(task);
        self.tasks.spawn(self.guarded(async {
            let _stopped_or_done = task.await;
        }));
    }

    /// Has a panic of `task` end the process.
    fn guarded(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let failed = self.failed.clone();
        async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a part of the agent has panicked: stopping");
                failed.cancel();
            }
        }
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Every group, in the order of a shutdown.
#[derive(Debug)]
pub(super) struct Stages {
    /// The gRPC server, and jobs that disconnect sessions.
    pub(super) calls: TaskGroup,
    /// The IPC server. Ends together with `calls`.
    pub(super) logins: TaskGroup,
    /// Questions to the policy source.
    pub(super) queries: TaskGroup,
    /// The decisions' file.
    pub(super) storage: TaskGroup,
    /// The delivery of events.
    pub(super) delivery: TaskGroup,
    /// The events' file.
    pub(super) event_storage: TaskGroup,
    /// The connection to the portal, and what else lives as long as the process.
    pub(super) process: TaskGroup,
}

impl Default for Stages {
    fn default() -> Self {
        let failed = CancellationToken::new();
        let group = || TaskGroup {
            failed: failed.clone(),
            ..TaskGroup::default()
        };
        Self {
            calls: group(),
            logins: group(),
            queries: group(),
            storage: group(),
            delivery: group(),
            event_storage: group(),
            process: group(),
        }
    }
}

impl Stages {
    /// Ends every group in order. `false` when that took longer than `login`, the longest time of a
    /// login in progress, and 7 s.
    pub(super) async fn shut_down(&self, login: Duration) -> bool {
        let limit = login + BEYOND_LOGINS;
        systemd::stopping("draining", limit);
        let by = clock::now() + limit;
        let in_time = timeout_at(by, self.in_order()).await.is_ok();
        if in_time {
            tracing::info!("agent has stopped");
        } else {
            tracing::error!(?limit, "shutdown timed out with work left");
        }
        in_time
    }

    async fn in_order(&self) {
        // A caller that keeps its call open must not delay the logins.
        tokio::join!(self.end_calls(), self.end_logins());
        self.queries.end().await;
        // A disk that hangs must not cost the events their time.
        tokio::join!(self.end_storage(), self.delivery.end());
        self.end_event_storage().await;
        self.process.end().await;
    }

    async fn end_calls(&self) {
        if timeout(CALLS_TIMEOUT, self.calls.end()).await.is_err() {
            tracing::warn!(limit = ?CALLS_TIMEOUT, "calls of the portal did not end in time");
        }
    }

    async fn end_storage(&self) {
        if timeout(STORAGE_TIMEOUT, self.storage.end()).await.is_err() {
            tracing::error!(limit = ?STORAGE_TIMEOUT, "the last decisions were not stored in time");
        }
    }

    async fn end_event_storage(&self) {
        if timeout(STORAGE_TIMEOUT, self.event_storage.end()).await.is_err() {
            tracing::error!(limit = ?STORAGE_TIMEOUT, "the last events were not stored in time");
        }
    }

    async fn end_logins(&self) {
        self.logins.end().await;
        tracing::info!("all logins are answered");
    }
}

#[cfg(test)]
mod tests;
