//! The policy file of this server: read at the start, read again when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::{Policy, PolicyError};
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A policy that follows its file.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    current: ArcSwap<Policy>,
}

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no policy; the text says where and what.
    #[error("{0}")]
    Faulty(PolicyError),
}

/// Reads and checks a policy file. Blocks on the disk.
pub(crate) fn load(path: &Path) -> Result<Policy, PolicyFileError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| PolicyFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    Policy::parse(&text, &path.display().to_string()).map_err(PolicyFileError::Faulty)
}

impl PolicyFile {
    /// Reads the file for the first time. Blocks on the disk.
    pub(crate) fn open(path: &Path) -> Result<Self, PolicyFileError> {
        let policy = load(path)?;
        tracing::info!(path = %path.display(), version = policy.fingerprint(), rules = policy.rule_count(), "policy read");
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(policy),
        })
    }

    /// The policy in use.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Looks at the file until `stop` and takes over what is good. A fault is told once, until the file changes again.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut told = None;
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            let path = self.path.clone();
            // Only a stopping runtime takes no work.
            let Ok(read) = tokio::task::spawn_blocking(move || load(&path)).await else {
                return;
            };
            let fault = read
                .map(|policy| self.take_over(policy))
                .err()
                .map(|fault| describe(&fault));
            if let Some(fault) = &fault
                && told.as_ref() != Some(fault)
            {
                tracing::error!(
                    fault,
                    "the changed policy file cannot be used: the policy before it stays in use"
                );
            }
            told = fault;
        }
    }

    fn take_over(&self, policy: Policy) {
        if policy.fingerprint() == self.policy().fingerprint() {
            return;
        }
        let (version, rules) = (policy.fingerprint().to_owned(), policy.rule_count());
        self.current.store(Arc::new(policy));
        tracing::info!(path = %self.path.display(), version, rules, "policy read");
    }
}

/// An error with its cause, in one line.
pub(crate) fn describe(fault: &PolicyFileError) -> String {
    match fault {
        PolicyFileError::Read { source, .. } => format!("{fault}: {source}"),
        PolicyFileError::Faulty(_) => fault.to_string(),
    }
}
