//! Files that are not used: why, and what happens to them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A store that was not used, and was replaced by an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The path of the file now; `None` when there was none.
    pub path: Option<PathBuf>,
    /// Why it is not used.
    pub reason: SetAsideReason,
}

/// Why a store is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetAsideReason {
    /// It is damaged.
    Damaged(String),
    /// Its content is not what was last written: damage hid the last commits, or an old copy
    /// replaced the file.
    Outdated {
        /// The sequence number in the database.
        found: u64,
        /// The sequence number of the last commit.
        expected: u64,
    },
    /// The database is gone, but its sequence file is there.
    Missing,
    /// A newer program wrote it, in this format version.
    Newer(String),
    /// Another agent, of this ID, wrote it.
    Foreign(String),
    /// It is not a file that only this agent's user can read and write.
    Exposed,
}

impl fmt::Display for SetAsideReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(problem) => write!(f, "it is damaged: {problem}"),
            Self::Outdated { found, expected } => {
                write!(
                    f,
                    "it ends with commit {found}, and the last one that was written is {expected}"
                )
            }
            Self::Missing => f.write_str("it is gone, and its sequence file is not"),
            Self::Newer(version) => write!(f, "a newer program wrote it, in format {version}"),
            Self::Foreign(agent) => write!(f, "agent {agent:?} wrote it"),
            Self::Exposed => f.write_str("other users can read or write it"),
        }
    }
}

impl SetAsideReason {
    /// Renames the database at `path`, replacing the last one with the same reason. A database that
    /// is gone stays gone.
    pub(super) fn set_aside(self, path: &Path) -> io::Result<SetAside> {
        let suffix = match self {
            Self::Damaged(_) => "damaged",
            Self::Outdated { .. } => "outdated",
            Self::Missing => {
                return Ok(SetAside {
                    path: None,
                    reason: self,
                });
            }
            Self::Newer(_) => "newer",
            Self::Foreign(_) => "foreign",
            Self::Exposed => "exposed",
        };
        Ok(SetAside {
            path: Some(storage::set_aside(path, suffix)?),
            reason: self,
        })
    }
}
