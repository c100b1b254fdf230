//! Persists cached decisions: restores them at the start, writes changes in the background.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use authz::{Authorizer, DecisionStore, OpenedStore, StoreError};
use resilience::Backoff;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::operations::store_status::StoreStatus;

/// Name of the store's file in the state directory.
const FILE_NAME: &str = "decisions.redb";
/// Time after which a disk counts as hung.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time over which changes are collected into one commit.
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
/// The pause before a store that failed is opened again.
const RETRY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(30),
    multiplier: 2.0,
};

/// Restores the stored decisions into a pipeline, and then keeps the store up to date.
#[derive(Debug)]
pub(crate) struct DecisionPersistence {
    file: StoreFile,
    disk: Disk,
    status: StoreStatus,
    /// Whether the content of the file is in the pipeline.
    restored: bool,
    /// Consecutive failures.
    failures: u32,
}

#[derive(Debug)]
enum Disk {
    /// A thread for blocking work opens the store.
    Opening(JoinHandle<Result<OpenedStore, StoreError>>),
    Open(DecisionStore),
    /// The store failed, or a thread for blocking work writes it.
    Closed,
}

impl DecisionPersistence {
    /// Starts to open the store in `state_dir`; early, so that the start waits less for it.
    pub(crate) fn start(state_dir: &Path, agent_id: &str) -> Self {
        let file = StoreFile {
            path: state_dir.join(FILE_NAME),
            agent_id: agent_id.to_owned(),
        };
        Self {
            disk: Disk::Opening(file.open()),
            file,
            status: StoreStatus::new("the decision store"),
            restored: false,
            failures: 0,
        }
    }

    /// Returns the status of the store.
    pub(crate) fn status(&self) -> StoreStatus {
        self.status.clone()
    }

    /// Restores the stored decisions into `authorizer`, whose logins may wait for them. Waits for
    /// the disk for at most 5 s; [`Self::run`] goes on where this ends.
    async fn restore(&mut self, authorizer: &Authorizer) {
        match timeout(DISK_TIMEOUT, self.open(authorizer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(error, authorizer),
            Err(_) => report(&self.status, disk_timeout()),
        }
        authorizer.end_wait_for_restore();
    }

    /// Restores the stored decisions into `authorizer`, then writes its changes until `stop`, and
    /// then the last ones. Until then logins wait as [`Authorizer::await_restore`] says.
    pub(crate) async fn run(mut self, authorizer: Authorizer, stop: CancellationToken) {
        let _restored_or_stopping = stop.run_until_cancelled(self.restore(&authorizer)).await;
        let mut is_stopping = false;
        while !is_stopping {
            let next_write = self.next_write(&authorizer);
            is_stopping = stop.run_until_cancelled(next_write).await.is_none();
            let requests = self.status.requests();
            match self.write_reporting_a_hang(&authorizer).await {
                Ok(()) => self.stored(requests),
                Err(error) => self.failed(error, &authorizer),
            }
        }
        if self.failures == 0 {
            self.status.set_complete();
        }
        // Closing the file syncs it.
        let close = tokio::task::spawn_blocking(move || drop(self.disk));
        if let Err(error) = close.await {
            tracing::debug!(%error, "could not close the decision store");
        }
    }

    async fn write_reporting_a_hang(&mut self, authorizer: &Authorizer) -> Result<(), String> {
        let status = self.status();
        let mut write = pin!(self.write(authorizer));
        match timeout(DISK_TIMEOUT, &mut write).await {
            Ok(written) => written,
            Err(_) => {
                report(&status, disk_timeout());
                write.await
            }
        }
    }

    /// Waits until there is something to write, or until a store that failed is to be tried again.
    async fn next_write(&self, authorizer: &Authorizer) {
        if self.failures > 0 {
            return sleep(RETRY.ceiling(self.failures)).await;
        }
        if matches!(self.disk, Disk::Opening(_)) {
            return;
        }
        let changed = async {
            authorizer.changed().await;
            sleep(BATCH_INTERVAL).await;
        };
        tokio::select! {
            () = changed => {}
            () = self.status.requested() => {}
        }
    }

    async fn write(&mut self, authorizer: &Authorizer) -> Result<(), String> {
        self.open(authorizer).await?;
        let Disk::Open(mut store) = std::mem::replace(&mut self.disk, Disk::Closed) else {
            return Err("it is closed".to_owned());
        };
        let authorizer = authorizer.clone();
        // A store that failed is closed on that thread too.
        let written = tokio::task::spawn_blocking(move || {
            let changes = authorizer.take_changes();
            if !changes.is_empty() {
                store.save(&changes)?;
            }
            Ok(store)
        });
        self.disk = Disk::Open(done(written.await)?);
        Ok(())
    }

    /// Opens the store where it is not open. Cancelling it loses nothing.
    async fn open(&mut self, authorizer: &Authorizer) -> Result<(), String> {
        if matches!(self.disk, Disk::Closed) {
            self.disk = Disk::Opening(self.file.open());
        }
        let Disk::Opening(opening) = &mut self.disk else {
            return Ok(());
        };
        let opened = done(opening.await);
        self.disk = Disk::Closed;
        let OpenedStore {
            store,
            records,
            is_complete,
        } = opened?;
        // Later the pipeline knows more than the file.
        if !self.restored {
            let decisions = authorizer.restore(records, is_complete);
            tracing::info!(path = %self.file.path.display(), decisions, "decisions restored");
            self.restored = true;
        }
        self.disk = Disk::Open(store);
        Ok(())
    }

    fn stored(&mut self, requests: u64) {
        self.failures = 0;
        if self.status.set_stored(requests) {
            tracing::info!("decision store recovered: everything is written");
        }
    }

    /// The next write has all records: the file may lack any of those that were to be written.
    fn failed(&mut self, error: String, authorizer: &Authorizer) {
        authorizer.mark_all_changed();
        self.failures = self.failures.saturating_add(1);
        report(&self.status, error);
    }
}

/// Where the store is, and whose it is.
#[derive(Debug, Clone)]
struct StoreFile {
    path: PathBuf,
    agent_id: String,
}

impl StoreFile {
    /// Opens the store on a thread for blocking work.
    fn open(&self) -> JoinHandle<Result<OpenedStore, StoreError>> {
        let file = self.clone();
        tokio::task::spawn_blocking(move || file.open_blocking())
    }

    fn open_blocking(&self) -> Result<OpenedStore, StoreError> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        DecisionStore::open(&self.path, &self.agent_id, |aside| {
            let path = self.path.display();
            let renamed_to = aside.path.as_ref().map(|path| path.display().to_string());
            tracing::warn!(%path, renamed_to, reason = %aside.reason, "decision store is unusable: replaced by an empty one, what it had of cached decisions and revocations is not used");
        })
    }
}

/// Logs a failure, as an error when it is the first one.
fn report(status: &StoreStatus, error: String) {
    let again = error.clone();
    if status.set_problem(error) {
        tracing::error!(
            key = "state_dir",
            error = again,
            "decision store does not work: retrying, a restart would lose decisions and revocations"
        );
    } else {
        tracing::debug!(error = again, "decision store does not work yet");
    }
}

fn disk_timeout() -> String {
    format!("the disk did not respond within {DISK_TIMEOUT:?}")
}

/// Flattens the result of blocking work.
fn done<T>(joined: Result<Result<T, StoreError>, JoinError>) -> Result<T, String> {
    match joined {
        Ok(result) => result.map_err(|error| error.to_string()),
        // It panicked, or the runtime is shutting down.
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
