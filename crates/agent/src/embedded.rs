//! The policy file of this server: read at the start, read again when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::{Policy, PolicyError};
use tokio_util::sync::CancellationToken;

/// How often the file is looked at. A change counts when two looks in a row find the same.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        let mut looks = Looks::default();
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            let path = self.path.clone();
            // Only a stopping runtime takes no work.
            let Ok(found) = tokio::task::spawn_blocking(move || load(&path)).await else {
                return;
            };
            match looks.judge(found.map_err(|fault| describe(&fault))) {
                Some(Ok(policy)) => self.take_over(policy),
                Some(Err(fault)) => {
                    tracing::error!(
                        fault,
                        "the changed policy file cannot be used: the policy before it stays in use"
                    );
                }
                None => {}
            }
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

/// What the looks at a policy file have found so far.
///
/// A file that is being written may read as a policy at any line end, without the rules that are still to come: what
/// counts is only what has stayed the same from one look to the next.
#[derive(Debug, Default)]
struct Looks {
    /// What the last look found: the policy's fingerprint, or what is wrong.
    last: Option<Result<String, String>>,
    /// What was made known last.
    known: Option<Result<String, String>>,
}

impl Looks {
    /// Takes what a look found. `Some` when it counts and is not known yet.
    fn judge(&mut self, found: Result<Policy, String>) -> Option<Result<Policy, String>> {
        let this = match &found {
            Ok(policy) => Ok(policy.fingerprint().to_owned()),
            Err(fault) => Err(fault.clone()),
        };
        let settled = self.last.as_ref() == Some(&this);
        self.last = Some(this);
        if !settled || self.known == self.last {
            return None;
        }
        self.known.clone_from(&self.last);
        Some(found)
    }
}

/// An error with its cause, in one line.
pub(crate) fn describe(fault: &PolicyFileError) -> String {
    match fault {
        PolicyFileError::Read { source, .. } => format!("{fault}: {source}"),
        PolicyFileError::Faulty(_) => fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        "version = 1\ndefault = \"allow\"\nrules = [{ verdict = \"deny\", users = [\"mallory\"] }]\n";
    const HALF: &str = "version = 1\ndefault = \"allow\"\n";

    #[test]
    fn a_file_counts_once_it_has_stayed_the_same_and_a_half_written_one_never_does() {
        let mut looks = Looks::default();
        let mut look = |text: &str| {
            let found = Policy::parse(text, "policy").map_err(|fault| fault.to_string());
            looks
                .judge(found)
                .map(|known| known.map(|policy| policy.rule_count()).map_err(|_| ()))
        };
        let seen: Vec<_> = [WHOLE, WHOLE, WHOLE, HALF, WHOLE, "", WHOLE, WHOLE]
            .map(&mut look)
            .into();
        assert_eq!(seen, [None, Some(Ok(1)), None, None, None, None, None, None]);
        let seen: Vec<_> = ["", "", "", HALF, HALF, "", ""].map(&mut look).into();
        assert_eq!(
            seen,
            [None, Some(Err(())), None, None, Some(Ok(0)), None, Some(Err(()))],
            "each change is told once"
        );
    }
}
