//! Errors of the store.

use std::io;

use storage::{DatabaseFault, FileError, classify};

use super::set_aside::SetAsideReason;

/// Why the store does not work. Open it again later: after an error of the disk a database refuses
/// every further write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("another process has it open")]
    InUse,
    /// The file system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database failed.
    #[error("{0}")]
    Database(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<Failed<E>> for StoreError {
    fn from(Failed(error): Failed<E>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Wraps any of redb's errors for its conversion.
pub(super) struct Failed<E>(pub(super) E);

/// Why a store was not opened.
pub(super) enum OpenError {
    /// The store is unusable: a new one would open.
    Unusable(SetAsideReason),
    /// The environment prevents it: no store would open.
    Environment(StoreError),
}

impl OpenError {
    pub(super) fn damaged(problem: impl Into<String>) -> Self {
        Self::Unusable(SetAsideReason::Damaged(problem.into()))
    }

    pub(super) fn file(error: FileError) -> Self {
        match error {
            FileError::Exposed => Self::Unusable(SetAsideReason::Exposed),
            FileError::Io(error) => Self::io(error),
        }
    }

    pub(super) fn io(error: io::Error) -> Self {
        Self::Environment(error.into())
    }
}

impl<E: Into<redb::Error>> From<E> for OpenError {
    fn from(error: E) -> Self {
        match classify(error) {
            DatabaseFault::InUse => Self::Environment(StoreError::InUse),
            DatabaseFault::Io(error) => Self::io(error),
            DatabaseFault::Latched(error) => Self::Environment(StoreError::Database(Box::new(error))),
            DatabaseFault::Damaged(problem) => Self::damaged(problem),
        }
    }
}
