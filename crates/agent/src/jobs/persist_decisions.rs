//! The decisions' copy on disk: read at the start, written behind the logins' back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use authz::{Authorizer, DecisionStore, OpenedStore, StoreError};
use resilience::Changes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The file's name in the state directory.
const NAME: &str = "decisions.redb";
/// How long the start waits for the file: a disk that hangs must not keep logins waiting.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Changes are gathered for so long before they are written: one commit for a storm of logins.
const GATHER: Duration = Duration::from_millis(200);
/// How long after a failure it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Opens the copy and gives `authorizer` what it holds. Without one the agent works, and forgets over a restart.
pub(crate) async fn open(state_dir: &Path, agent_id: &str, authorizer: &Authorizer) -> Option<DecisionStore> {
    let path = state_dir.join(NAME);
    let (file, agent_id) = (path.clone(), agent_id.to_owned());
    let opening = tokio::task::spawn_blocking(move || open_file(&file, &agent_id));
    let trouble = match timeout(OPEN_WITHIN, opening).await {
        Ok(Ok(Ok(opened))) => return Some(take_over(&path, opened, authorizer)),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk does not answer within {OPEN_WITHIN:?}"),
    };
    tracing::error!(key = "state_dir", path = %path.display(), error = trouble, "decisions cannot be stored: they are lost in a restart");
    None
}

fn open_file(path: &Path, agent_id: &str) -> Result<OpenedStore, StoreError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    DecisionStore::open(path, agent_id)
}

fn take_over(path: &Path, opened: OpenedStore, authorizer: &Authorizer) -> DecisionStore {
    if let Some(aside) = opened.set_aside {
        let kept: PathBuf = aside.path;
        tracing::warn!(path = %path.display(), kept = %kept.display(), reason = %aside.reason, "the stored decisions cannot be used: set aside");
    }
    let decisions = authorizer.restore(opened.records);
    tracing::info!(path = %path.display(), decisions, "stored decisions read");
    opened.store
}

/// Writes changes as they come, until `stop`; then the last of them.
pub(crate) async fn run(store: DecisionStore, authorizer: Authorizer, stop: CancellationToken) {
    write(move |changes| store.save(changes), authorizer, stop).await;
}

/// What could not be written is not forgotten: the next write, half a minute later at the latest, writes everything.
/// Else a decision that was dropped meanwhile would come back with a restart.
async fn write(
    save: impl Fn(&Changes) -> Result<(), StoreError> + Send + Sync + 'static,
    authorizer: Authorizer,
    stop: CancellationToken,
) {
    let save = Arc::new(save);
    let (mut failing, mut ending) = (false, false);
    while !ending {
        let next = async {
            if failing {
                sleep(TRY_AGAIN).await;
            } else {
                authorizer.changed().await;
                sleep(GATHER).await;
            }
        };
        ending = stop.run_until_cancelled(next).await.is_none();
        let changes = authorizer.take_changes();
        if changes.is_empty() {
            continue;
        }
        let save = Arc::clone(&save);
        let trouble = match tokio::task::spawn_blocking(move || save(&changes)).await {
            Ok(saved) => saved.err().map(|error| error.to_string()),
            // It panicked, or a stopping runtime takes no work.
            Err(error) => Some(error.to_string()),
        };
        match &trouble {
            Some(error) if failing => tracing::debug!(error, "could still not store decisions"),
            Some(error) => {
                tracing::error!(
                    error,
                    "could not store decisions: a restart would lose some; trying again"
                );
            }
            None if failing => tracing::info!("decisions are stored again"),
            None => {}
        }
        failing = trouble.is_some();
        if failing {
            authorizer.mark_all_changed();
        }
    }
}

#[cfg(test)]
mod tests;
