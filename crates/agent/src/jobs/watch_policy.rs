//! Reloads the embedded policy when its file changes, and keeps a copy of the last good one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ocserv_agent_model::error_chain;
use policy::{Policy, PolicyCopy, PolicyCopyError, PolicyFile, PolicyFileError};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::operations::policy_backend::CurrentPolicy;
use crate::operations::refused_reloads::{RefusedReloads, Reloaded};

/// Pause between two reads of the file. A change takes effect once two reads in a row agree.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The policy file, the policy in effect, and its copy on the disk.
#[derive(Debug)]
pub(crate) struct PolicyWatch {
    file: PolicyFile,
    current: CurrentPolicy,
    refused: RefusedReloads,
    saver: PolicySaver,
}

impl PolicyWatch {
    /// Loads the policy file, or the copy of the last good policy in `state_dir` when the file
    /// cannot be used. Blocks on the disk.
    ///
    /// # Errors
    /// The problem of the file, when the copy cannot be used either.
    pub(crate) fn open(
        path: &Path,
        state_dir: &Path,
        refused: RefusedReloads,
    ) -> Result<Self, PolicyFileError> {
        let (file, policy) = PolicyFile::watch(path);
        let copy = PolicyCopy::in_directory(state_dir);
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => {
                let Some(policy) = load_copy(&copy) else {
                    return Err(error);
                };
                let (copy, error) = (copy.path().display(), error_chain(&error));
                tracing::error!(
                    %copy,
                    error,
                    "the policy file cannot be used: the last good policy is in effect"
                );
                refused.set(Reloaded::Policy, Some(error));
                policy
            }
        };
        log_loaded(path, &policy);
        Ok(Self {
            file,
            current: Arc::new(ArcSwap::new(policy)),
            refused,
            saver: PolicySaver::new(copy),
        })
    }

    /// Returns the policy in effect.
    pub(crate) fn current(&self) -> CurrentPolicy {
        Arc::clone(&self.current)
    }

    /// Polls the file until `stop` and applies each valid change. Logs an invalid content once.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self {
            mut file,
            current,
            refused,
            mut saver,
        } = self;
        loop {
            saver.save(file.text()).await;
            if stop.run_until_cancelled(sleep(POLL_INTERVAL)).await.is_none() {
                return;
            }
            let poll = move || {
                let change = file.poll();
                (file, change)
            };
            // An error means that the runtime is shutting down.
            let Ok((polled, change)) = spawn_blocking(poll).await else {
                return;
            };
            file = polled;
            match change {
                Some(Ok(policy)) => {
                    refused.set(Reloaded::Policy, None);
                    if policy.fingerprint() != current.load().fingerprint() {
                        log_loaded(file.path(), &policy);
                        current.store(policy);
                    }
                }
                Some(Err(error)) => {
                    let error = error_chain(&error);
                    tracing::error!(
                        error,
                        "could not reload the policy file: the previous policy stays in effect"
                    );
                    refused.set(Reloaded::Policy, Some(error));
                }
                None => {}
            }
        }
    }
}

/// Writes the copy of the last good policy. A disk that hangs does not delay a change of the
/// policy.
#[derive(Debug)]
struct PolicySaver {
    copy: PolicyCopy,
    saving: Option<JoinHandle<Saved>>,
    /// The text on the disk, as far as known.
    saved: Option<Arc<str>>,
    problem: Option<String>,
}

/// A text and whether it was saved.
type Saved = (Arc<str>, Result<(), PolicyCopyError>);

impl PolicySaver {
    fn new(copy: PolicyCopy) -> Self {
        Self {
            copy,
            saving: None,
            saved: None,
            problem: None,
        }
    }

    /// Begins to save `text` unless it is saved; called again and again. An empty `text` is none.
    /// Logs a failure once.
    async fn save(&mut self, text: Arc<str>) {
        if let Some(saving) = self.saving.take_if(|saving| saving.is_finished())
            && let Ok((text, result)) = saving.await
        {
            match result {
                Ok(()) => {
                    self.saved = Some(text);
                    self.problem = None;
                }
                Err(error) => self.report(error_chain(&error)),
            }
        }
        if self.saving.is_none() && !text.is_empty() && self.saved.as_ref() != Some(&text) {
            let copy = self.copy.clone();
            self.saving = Some(spawn_blocking(move || {
                let result = copy.save(&text);
                (text, result)
            }));
        }
    }

    fn report(&mut self, error: String) {
        if self.problem.as_ref() != Some(&error) {
            tracing::error!(
                key = "state_dir",
                error,
                "could not save the policy: retrying, a start with a broken policy file would fail"
            );
            self.problem = Some(error);
        }
    }
}

fn load_copy(copy: &PolicyCopy) -> Option<Arc<Policy>> {
    copy.load().unwrap_or_else(|error| {
        let error = error_chain(&error);
        tracing::error!(error, "the copy of the last good policy cannot be used");
        None
    })
}

fn log_loaded(path: &Path, policy: &Policy) {
    let (version, rules) = (policy.fingerprint(), policy.rule_count());
    tracing::info!(path = %path.display(), version, rules, "policy loaded");
}
