//! Persists cached decisions: restores them at the start, writes changes in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use authz::{Authorizer, DecisionStore, OpenedStore, StoreError};
use resilience::Changes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Name of the store's file in the state directory.
const FILE_NAME: &str = "decisions.redb";
/// Longest time that the start waits for the store: a hung disk must not delay logins.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time over which changes are collected into one commit.
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// The store while a thread for blocking work opens and reads it.
#[derive(Debug)]
pub(crate) struct StoreOpening {
    path: PathBuf,
    opened: JoinHandle<Result<OpenedStore, StoreError>>,
}

impl StoreOpening {
    /// Starts to open the store in `state_dir`; early, so that the start waits less for it.
    pub(crate) fn start(state_dir: &Path, agent_id: &str) -> Self {
        let path = state_dir.join(FILE_NAME);
        let (file, agent_id) = (path.clone(), agent_id.to_owned());
        let opened = tokio::task::spawn_blocking(move || open_blocking(&file, &agent_id));
        Self { path, opened }
    }

    /// Restores the stored decisions into `authorizer`. Logs a failure; without a store the agent
    /// works, but a restart loses the decisions.
    pub(crate) async fn finish(self, authorizer: &Authorizer) -> Option<DecisionStore> {
        let Self { path, opened } = self;
        let error = match timeout(OPEN_TIMEOUT, opened).await {
            Ok(Ok(Ok(opened))) => return Some(restore(&path, opened, authorizer)),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the disk did not respond within {OPEN_TIMEOUT:?}"),
        };
        let path = path.display();
        tracing::error!(
            key = "state_dir", %path, error,
            "could not open the decision store: a restart loses the cached decisions"
        );
        None
    }
}

fn open_blocking(path: &Path, agent_id: &str) -> Result<OpenedStore, StoreError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let opened = DecisionStore::open(path, agent_id)?;
    // Here, because the start may fail before it takes the store.
    if let Some(aside) = &opened.set_aside {
        tracing::warn!(path = %path.display(), renamed_to = %aside.path.display(), reason = %aside.reason, "decision store is unusable: renamed");
    }
    Ok(opened)
}

fn restore(path: &Path, opened: OpenedStore, authorizer: &Authorizer) -> DecisionStore {
    let decisions = authorizer.restore(opened.records);
    tracing::info!(path = %path.display(), decisions, "decisions restored");
    opened.store
}

/// Writes changes to `store` until `stop`, and then the last ones.
pub(crate) async fn run(store: DecisionStore, authorizer: Authorizer, stop: CancellationToken) {
    write_changes(move |changes| store.save(changes), authorizer, stop).await;
}

/// Writes changes with `save`. After a failure the next write, [`RETRY_INTERVAL`] later, has all
/// records: else a restart would restore a decision that was dropped meanwhile.
async fn write_changes(
    save: impl Fn(&Changes) -> Result<(), StoreError> + Send + Sync + 'static,
    authorizer: Authorizer,
    stop: CancellationToken,
) {
    let save = Arc::new(save);
    let (mut is_failing, mut is_stopping) = (false, false);
    while !is_stopping {
        let next_write = async {
            if is_failing {
                sleep(RETRY_INTERVAL).await;
            } else {
                authorizer.changed().await;
                sleep(BATCH_INTERVAL).await;
            }
        };
        is_stopping = stop.run_until_cancelled(next_write).await.is_none();
        let changes = authorizer.take_changes();
        if changes.is_empty() {
            continue;
        }
        let save = Arc::clone(&save);
        let error = match tokio::task::spawn_blocking(move || save(&changes)).await {
            Ok(saved) => saved.err().map(|error| error.to_string()),
            // It panicked, or the runtime is shutting down.
            Err(error) => Some(error.to_string()),
        };
        match &error {
            Some(error) if is_failing => tracing::debug!(error, "could not write decisions again"),
            Some(error) => {
                tracing::error!(
                    error,
                    "could not write decisions: retrying, a restart would lose some"
                );
            }
            None if is_failing => tracing::info!("writing decisions recovered"),
            None => {}
        }
        is_failing = error.is_some();
        if is_failing {
            authorizer.mark_all_changed();
        }
    }
}

#[cfg(test)]
mod tests;
