//! Keeps the embedded policy up to date with its file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ocserv_agent_model::error_chain;
use policy::{Policy, PolicyFile, PolicyFileError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::operations::policy_backend::CurrentPolicy;

/// Time between two reads of the file. A change counts when two reads in a row agree.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Reads the policy file for the first time. Blocks on the disk.
pub(crate) fn open(path: &Path) -> Result<(PolicyFile, CurrentPolicy), PolicyFileError> {
    let (file, policy) = PolicyFile::open(path)?;
    log_read(&file, &policy);
    Ok((file, Arc::new(ArcSwap::new(policy))))
}

/// Polls the file until `stop` and puts each valid change into effect. A fault is logged once,
/// until the file changes again.
pub(crate) async fn watch_policy(mut file: PolicyFile, current: CurrentPolicy, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(POLL_INTERVAL)).await.is_some() {
        let poll = move || {
            let change = file.poll();
            (file, change)
        };
        // Only a stopping runtime takes no work.
        let Ok((polled, change)) = tokio::task::spawn_blocking(poll).await else {
            return;
        };
        file = polled;
        match change {
            Some(Ok(policy)) if policy.fingerprint() != current.load().fingerprint() => {
                log_read(&file, &policy);
                current.store(policy);
            }
            Some(Err(error)) => {
                let fault = error_chain(&error);
                tracing::error!(
                    fault,
                    "the changed policy file cannot be used: the policy before it stays in use"
                );
            }
            Some(Ok(_)) | None => {}
        }
    }
}

fn log_read(file: &PolicyFile, policy: &Policy) {
    let (version, rules) = (policy.fingerprint(), policy.rule_count());
    tracing::info!(path = %file.path().display(), version, rules, "policy read");
}
