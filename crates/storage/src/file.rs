//! Files that must be this agent's alone.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Why a file was not opened.
#[derive(Debug)]
pub enum FileError {
    /// It is not a file that only this agent's user can read and write.
    Exposed,
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Creates the file at `path`.
///
/// # Errors
/// When it exists or cannot be created.
pub fn create(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Opens the file at `path`; `None` when it does not exist. Refuses one that another user can read
/// or write.
///
/// # Errors
/// [`FileError`], the reason.
pub fn open_existing(path: &Path) -> Result<Option<File>, FileError> {
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(FileError::Exposed);
        }
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !is_own || metadata.mode() & 0o077 != 0 || metadata.nlink() != 1 {
        return Err(FileError::Exposed);
    }
    Ok(Some(file))
}

/// Options that neither follow a symlink nor wait for a FIFO.
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

/// Renames the file at `path` to `path` with `.suffix`, replacing the last such file; returns the
/// new path.
///
/// # Errors
/// When the file system refuses it.
pub fn set_aside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let aside = with_suffix(path, &format!(".{suffix}"));
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is lost when a crash leaves the unusable file in place"
    )]
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Returns `path` with `suffix` at its end.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(OsStr::new(suffix));
    PathBuf::from(path)
}

/// Makes changes of the names in the directory of `path` durable.
///
/// # Errors
/// When the disk fails.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    // A bare file name has the empty parent.
    let parent = path.parent().filter(|path| *path != Path::new(""));
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
