//! Errors of the store.

use std::fmt;
use std::io;
use std::path::PathBuf;

use storage::{DatabaseFault, FileError, classify};

/// Why the store does not work. Open it again later: after an error of the disk a database refuses
/// every further write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("another process has it open")]
    InUse,
    /// A newer program wrote it, in this format version; it is left as it is.
    #[error("a newer program wrote it, in format {0}")]
    Newer(String),
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

/// Something that happened to the file while it was not open, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What happened.
    pub problem: FileProblem,
    /// The path of the file now, if it was replaced.
    pub aside: Option<PathBuf>,
    /// The number of events that were recovered from a file that was replaced.
    pub recovered: usize,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileProblem {
    /// It is damaged: what could be read was recovered.
    Damaged(String),
    /// It is older than the last one that was open: it is used, and what only the later one had is
    /// lost.
    Outdated,
    /// It is gone.
    Missing,
    /// Another agent, of this ID, wrote it: it is not used.
    Foreign(String),
    /// It is not a file that only this agent's user can read and write: it is not used.
    Exposed,
}

impl FileProblem {
    /// Every kind of problem, as [`Self::label`] names it.
    pub const LABELS: [&str; 5] = ["damaged", "outdated", "missing", "foreign", "exposed"];

    /// Returns the name in metrics and in the name of a file that is not used.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Damaged(_) => "damaged",
            Self::Outdated => "outdated",
            Self::Missing => "missing",
            Self::Foreign(_) => "foreign",
            Self::Exposed => "exposed",
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(problem) => write!(f, "it is damaged: {problem}"),
            Self::Outdated => f.write_str("it is older than the file that was open last"),
            Self::Missing => f.write_str("it is gone"),
            Self::Foreign(agent) => write!(f, "agent {agent:?} wrote it"),
            Self::Exposed => f.write_str("other users can read or write it"),
        }
    }
}

/// Why a store was not opened.
pub(super) enum OpenError {
    /// The file is unusable: a new one would open.
    Unusable(FileProblem),
    /// The environment prevents it: no store would open.
    Environment(StoreError),
}

impl OpenError {
    pub(super) fn damaged(problem: impl Into<String>) -> Self {
        Self::Unusable(FileProblem::Damaged(problem.into()))
    }

    pub(super) fn file(error: FileError) -> Self {
        match error {
            FileError::Exposed => Self::Unusable(FileProblem::Exposed),
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
