//! Puts each valid change of the policy file into effect.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ocserv_agent_model::error_chain;
use policy::{Policy, PolicyFile};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::journal_entry::JournalEntry;

/// Time between two reads of the file. A change counts when two reads in a row agree.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The policy in effect.
pub(super) type CurrentPolicy = watch::Receiver<Arc<Policy>>;

pub(super) struct PolicyWatch {
    file: PolicyFile,
    current: watch::Sender<Arc<Policy>>,
}

impl PolicyWatch {
    /// Reads the policy file for the first time.
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, CurrentPolicy)> {
        let (file, policy) = PolicyFile::open(path).context("could not load the policy")?;
        log_loaded(&policy);
        let (current, receiver) = watch::channel(policy);
        Ok((Self { file, current }, receiver))
    }

    /// Polls the file until `token` is cancelled. An invalid file leaves the policy as it is.
    pub(super) async fn run(self, journal: Journal, token: CancellationToken) {
        let Self { mut file, current } = self;
        while token
            .run_until_cancelled(tokio::time::sleep(POLL_INTERVAL))
            .await
            .is_some()
        {
            let poll = move || {
                let change = file.poll();
                (file, change)
            };
            let Ok((polled, change)) = tokio::task::spawn_blocking(poll).await else {
                return;
            };
            file = polled;
            match change {
                Some(Ok(policy)) => {
                    log_loaded(&policy);
                    let entry = JournalEntry::policy_loaded(&policy);
                    current.send_replace(policy);
                    journal.append(entry).await;
                }
                Some(Err(error)) => {
                    let policy_version = current.borrow().fingerprint().to_owned();
                    let error = error_chain(&error);
                    tracing::error!(
                        "could not load the changed policy, {policy_version} stays in effect: {error}"
                    );
                    journal
                        .append(JournalEntry::PolicyRefused {
                            policy_version,
                            error,
                        })
                        .await;
                }
                None => {}
            }
        }
    }
}

fn log_loaded(policy: &Policy) {
    tracing::info!(
        "policy {} loaded: {} rules",
        policy.fingerprint(),
        policy.rule_count()
    );
}
