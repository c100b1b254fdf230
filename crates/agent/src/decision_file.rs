//! The decisions' copy on disk: read at the start, written behind the logins' back.

use std::path::Path;
use std::time::Duration;

use authz::{Authorizer, DecisionStore};
use tokio_util::sync::CancellationToken;

/// The file's name in the state directory.
const NAME: &str = "decisions.redb";
/// Changes are gathered for so long before they are written: one commit for a storm of logins.
const GATHER: Duration = Duration::from_millis(200);

/// Opens the copy and gives `authorizer` what it holds. Without one the agent works, and forgets over a restart.
/// Blocks on the disk.
pub(crate) fn open(state_dir: &Path, agent_id: &str, authorizer: &Authorizer) -> Option<DecisionStore> {
    let path = state_dir.join(NAME);
    let opened = match std::fs::create_dir_all(state_dir).map_err(authz::StoreError::from) {
        Ok(()) => DecisionStore::open(&path, agent_id),
        Err(error) => Err(error),
    };
    match opened {
        Ok(opened) => {
            if let Some(aside) = opened.set_aside {
                let kept = aside.path.display();
                tracing::warn!(path = %path.display(), %kept, why = %aside.why, "the stored decisions cannot be used: set aside");
            }
            let decisions = authorizer.restore(opened.records);
            tracing::info!(path = %path.display(), decisions, "stored decisions read");
            Some(opened.store)
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "decisions cannot be stored: they are lost in a restart");
            None
        }
    }
}

/// Writes changes as they come, until `stop`; then the last of them.
pub(crate) async fn write(store: DecisionStore, authorizer: Authorizer, stop: CancellationToken) {
    let store = std::sync::Arc::new(store);
    let mut ending = false;
    while !ending {
        let gathered = async {
            authorizer.changed().await;
            tokio::time::sleep(GATHER).await;
        };
        ending = stop.run_until_cancelled(gathered).await.is_none();
        let changes = authorizer.take_changes();
        if changes.is_empty() {
            continue;
        }
        let store = std::sync::Arc::clone(&store);
        // Only a stopping runtime takes no work, or work that panicked: the copy then lacks these changes.
        match tokio::task::spawn_blocking(move || store.save(&changes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "could not store decisions: some are lost in a restart")
            }
            Err(error) => tracing::error!(%error, "could not store decisions: some are lost in a restart"),
        }
    }
}
