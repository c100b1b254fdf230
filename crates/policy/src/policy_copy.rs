//! The copy of the last good policy, for a start at which the policy file cannot be used.
//!
//! The file is one line, `# ocserv-agent policy copy VERSION FINGERPRINT`, and the text of the
//! policy. The fingerprint is that of the text: a text that lost its last rules may be a valid
//! policy. The file is replaced whole.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::error::PolicyError;
use crate::policy_file::MAX_BYTES;
use crate::rules::{Policy, fingerprint};

/// The file's name in the state directory.
const NAME: &str = "policy.last-good";
/// What the first line begins with.
const MARK: &str = "# ocserv-agent policy copy ";
/// Version of the format.
const VERSION: &str = "1";
/// Longest first line, in bytes: far above that of any copy.
const MAX_HEADER: u64 = 128;

/// Why a copy cannot be used or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyCopyError {
    /// The system refused an access to the file or its directory.
    #[error("{path}: cannot be used")]
    Io {
        /// The copy.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is a link or no regular file, is not the agent's own, or can be read or written by
    /// others.
    #[error("{0}: is not used, other users can access it or it is not a regular file")]
    Exposed(PathBuf),
    /// The content is not what was written.
    #[error("{0}: is damaged")]
    Damaged(PathBuf),
    /// A newer program wrote the file.
    #[error("{0}: was written by a newer version")]
    Newer(PathBuf),
    /// This program does not accept the policy that another one had accepted.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
}

/// The copy of the last good policy in a state directory.
#[derive(Debug, Clone)]
pub struct PolicyCopy {
    path: PathBuf,
}

impl PolicyCopy {
    /// The copy in `state_dir`. Reads nothing.
    #[must_use]
    pub fn in_directory(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(NAME),
        }
    }

    /// Returns the path of the copy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks the copy; `None` when there is none. Blocks on the disk.
    ///
    /// # Errors
    /// When the file is not this user's alone, is damaged or holds no valid policy.
    pub fn load(&self) -> Result<Option<Arc<Policy>>, PolicyCopyError> {
        let Some(text) = self.read()? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Policy::parse(
            &text,
            &self.path.display().to_string(),
        )?)))
    }

    /// Replaces the copy by `text`, the text of a valid policy, durably; does nothing when it has
    /// that text already. Creates the directory where it is missing. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be written, or a newer program wrote it.
    pub fn save(&self, text: &str) -> Result<(), PolicyCopyError> {
        match self.read() {
            Ok(Some(saved)) if saved == text => Ok(()),
            Err(error @ PolicyCopyError::Newer(_)) => Err(error),
            _ => self.replace(text).map_err(|source| self.io(source)),
        }
    }

    fn read(&self) -> Result<Option<String>, PolicyCopyError> {
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(MAX_BYTES + MAX_HEADER)
            .read_to_end(&mut content)
            .map_err(|source| self.io(source))?;
        let content = String::from_utf8(content).map_err(|_| self.damaged())?;
        let (version, rest) = content
            .strip_prefix(MARK)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| self.damaged())?;
        if version != VERSION {
            return Err(PolicyCopyError::Newer(self.path.clone()));
        }
        match rest.split_once('\n') {
            Some((expected, text)) if fingerprint(text) == expected => Ok(Some(text.to_owned())),
            _ => Err(self.damaged()),
        }
    }

    /// Opens the file without following a link or waiting for a FIFO.
    fn open(&self) -> Result<Option<File>, PolicyCopyError> {
        let exposed = || PolicyCopyError::Exposed(self.path.clone());
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(exposed());
            }
            Err(error) => return Err(self.io(error)),
        };
        let metadata = file.metadata().map_err(|source| self.io(source))?;
        let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_file() || !is_own || metadata.mode() & 0o077 != 0 || metadata.nlink() != 1 {
            return Err(exposed());
        }
        Ok(Some(file))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // `path` has the state directory as its parent.
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let temporary = with_suffix(&self.path, ".tmp");
        // Of a crash. What cannot be removed cannot be created either.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        write!(file, "{MARK}{VERSION} {}\n{text}", fingerprint(text))?;
        file.sync_all()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the file is synced before, the directory after"
        )]
        fs::rename(&temporary, &self.path)?;
        File::open(directory)?.sync_all()
    }

    fn damaged(&self) -> PolicyCopyError {
        PolicyCopyError::Damaged(self.path.clone())
    }

    fn io(&self, source: io::Error) -> PolicyCopyError {
        PolicyCopyError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(OsStr::new(suffix));
    PathBuf::from(path)
}
