//! Reads and watches a policy file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocserv_agent_model::error_chain;

use crate::error::PolicyError;
use crate::rules::{Policy, fingerprint};

/// The largest policy file, in bytes.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// The file cannot be opened or read, or is not UTF-8.
    #[error("{path}: cannot be read")]
    Read {
        /// The policy file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is larger than 4 MiB.
    #[error("{path}: is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// The policy file.
        path: PathBuf,
    },
    /// The file's content is not a valid policy.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
}

/// Watches one policy file: a change counts once two reads in a row have found the same content.
///
/// A half-written file may parse as a policy without its last rules. It is never in effect if it is
/// complete within the time between two polls, which the caller chooses.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    reads: StableRead,
    /// The text of the last valid policy; empty before the first.
    text: Arc<str>,
}

impl PolicyFile {
    /// Reads the file for the first time; this read alone counts. Blocks on the disk.
    ///
    /// # Errors
    /// [`PolicyFileError`] when the file cannot be read or is not a valid policy.
    pub fn open(path: &Path) -> Result<(Self, Arc<Policy>), PolicyFileError> {
        let (file, policy) = Self::watch(path);
        Ok((file, policy?))
    }

    /// Reads the file for the first time; watches it also when it cannot be used. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn watch(path: &Path) -> (Self, Result<Arc<Policy>, PolicyFileError>) {
        let content = read(path);
        let mut file = Self {
            path: path.to_owned(),
            reads: StableRead::new(reading(&content)),
            text: Arc::default(),
        };
        let policy = content.and_then(|text| file.accept(text));
        (file, policy)
    }

    /// Returns the text of the last valid policy that was returned; empty before the first.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again; returns each change once, on the second read that finds it. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// [`PolicyFileError`] when the file has become unreadable or invalid; the previous policy
    /// should stay in effect.
    pub fn poll(&mut self) -> Option<Result<Arc<Policy>, PolicyFileError>> {
        let content = read(&self.path);
        let changed = self.reads.observe(reading(&content));
        changed.then(|| content.and_then(|text| self.accept(text)))
    }

    /// Parses `text`, and keeps it when it is valid.
    fn accept(&mut self, text: String) -> Result<Arc<Policy>, PolicyFileError> {
        let policy = Policy::parse(&text, &self.path.display().to_string())?;
        self.text = text.into();
        Ok(Arc::new(policy))
    }
}

fn reading(content: &Result<String, PolicyFileError>) -> Reading {
    match content {
        Ok(text) => Ok(fingerprint(text)),
        Err(error) => Err(error_chain(error)),
    }
}

fn read(path: &Path) -> Result<String, PolicyFileError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|source| PolicyFileError::Read {
            path: path.to_owned(),
            source,
        })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(PolicyFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

/// The result of one read: the fingerprint of the content, or the error.
type Reading = Result<String, String>;

/// Detects a change that two reads in a row agree on.
#[derive(Debug)]
struct StableRead {
    last: Reading,
    /// The last content that two reads in a row have agreed on.
    stable: Reading,
}

impl StableRead {
    /// Starts with `first` as stable.
    fn new(first: Reading) -> Self {
        Self {
            last: first.clone(),
            stable: first,
        }
    }

    /// Returns whether `read` makes another content stable.
    fn observe(&mut self, read: Reading) -> bool {
        let repeated = read == self.last;
        self.last = read;
        let changed = repeated && self.last != self.stable;
        if changed {
            self.stable.clone_from(&self.last);
        }
        changed
    }
}
