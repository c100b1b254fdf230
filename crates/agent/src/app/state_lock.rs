//! The lock on the agent's directories, so that no second agent writes to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storage::{DirectoryLock, LockError};
use tokio::time::timeout;

use crate::config::Config;

/// Longest time that the start waits for the disk.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Another agent uses this directory.
#[derive(Debug, thiserror::Error)]
#[error("{key}: another agent uses {}", path.display())]
pub struct StateInUse {
    key: &'static str,
    path: PathBuf,
}

/// The locks on the directories of one agent.
pub(super) type StateLock = Vec<DirectoryLock>;

/// Locks the directories of `config`. One that cannot be used is not locked: its stores report that
/// all the time, and logins are decided without them.
pub(super) async fn lock_state(config: &Config) -> Result<StateLock, StateInUse> {
    let state_dir = config.state_dir.clone();
    let outbox_dir = config.outbox.directory(&state_dir).to_owned();
    let mut directories = vec![("state_dir", state_dir)];
    if outbox_dir != config.state_dir {
        directories.push(("outbox.dir", outbox_dir));
    }
    let locking = tokio::task::spawn_blocking(move || {
        let locks = directories.into_iter().filter_map(|(key, path)| {
            let lock = lock(&path)?;
            Some(lock.map_err(|_| StateInUse { key, path }))
        });
        locks.collect()
    });
    match timeout(LOCK_TIMEOUT, locking).await {
        Ok(Ok(locks)) => locks,
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(limit = ?LOCK_TIMEOUT, "could not lock state_dir in time: another agent may use it");
            Ok(Vec::new())
        }
    }
}

/// Creates and locks a directory; `None` when it cannot be used.
fn lock(path: &Path) -> Option<Result<DirectoryLock, LockError>> {
    if let Err(error) = std::fs::create_dir_all(path) {
        tracing::debug!(%error, path = %path.display(), "could not create the directory");
    }
    match DirectoryLock::acquire(path) {
        Err(LockError::Io(error)) => {
            tracing::debug!(%error, path = %path.display(), "could not lock the directory");
            None
        }
        locked => Some(locked),
    }
}
