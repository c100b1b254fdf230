//! A lock on a directory, so that one process at a time uses the files in it.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A locked directory; unlocked when this is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "closing it unlocks")] File);

/// Why a directory was not locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process has locked it.
    InUse,
    /// The file system failed.
    Io(io::Error),
}

impl DirectoryLock {
    /// Locks the directory at `path`. Writes nothing, so it works on a disk that is full.
    ///
    /// # Errors
    /// [`LockError`], the reason.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let directory = File::open(path).map_err(LockError::Io)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(directory)),
            Err(Errno::WOULDBLOCK) => Err(LockError::InUse),
            Err(error) => Err(LockError::Io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_until_the_lock_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let second = DirectoryLock::acquire(dir.path());
        assert!(matches!(second, Err(LockError::InUse)));
        drop(lock);
        let _again = DirectoryLock::acquire(dir.path()).unwrap();
        let missing = DirectoryLock::acquire(&dir.path().join("missing"));
        assert!(matches!(missing, Err(LockError::Io(_))));
    }
}
