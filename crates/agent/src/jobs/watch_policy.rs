//! Reloads the embedded policy when its file changes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ocserv_agent_model::error_chain;
use policy::{Policy, PolicyFile, PolicyFileError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::operations::policy_backend::CurrentPolicy;

/// Pause between two reads of the file. A change takes effect once two reads in a row agree.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Loads the policy file. Blocks on the disk.
pub(crate) fn open(path: &Path) -> Result<(PolicyFile, CurrentPolicy), PolicyFileError> {
    let (file, policy) = PolicyFile::open(path)?;
    log_loaded(&file, &policy);
    Ok((file, Arc::new(ArcSwap::new(policy))))
}

/// Polls the file until `stop` and applies each valid change. Logs an invalid content once.
pub(crate) async fn watch_policy(mut file: PolicyFile, current: CurrentPolicy, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(POLL_INTERVAL)).await.is_some() {
        let poll = move || {
            let change = file.poll();
            (file, change)
        };
        // An error means that the runtime is shutting down.
        let Ok((polled, change)) = tokio::task::spawn_blocking(poll).await else {
            return;
        };
        file = polled;
        match change {
            Some(Ok(policy)) if policy.fingerprint() != current.load().fingerprint() => {
                log_loaded(&file, &policy);
                current.store(policy);
            }
            Some(Err(error)) => {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "could not reload the policy file: the previous policy stays in effect"
                );
            }
            Some(Ok(_)) | None => {}
        }
    }
}

fn log_loaded(file: &PolicyFile, policy: &Policy) {
    let (version, rules) = (policy.fingerprint(), policy.rule_count());
    tracing::info!(path = %file.path().display(), version, rules, "policy loaded");
}
