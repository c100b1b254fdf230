//! Opening a file that must be this agent's alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::error::OpenError;
use super::set_aside::SetAsideReason;

/// Creates the file at `path`.
pub(super) fn create(path: &Path) -> Result<File, OpenError> {
    options().create_new(true).open(path).map_err(OpenError::io)
}

/// Opens the file at `path`; `None` when it does not exist. Refuses one that another user can read
/// or write.
pub(super) fn open_existing(path: &Path) -> Result<Option<File>, OpenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(error)),
    }
    let exposed = || OpenError::Unusable(SetAsideReason::Exposed);
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(exposed());
        }
        Err(error) => return Err(OpenError::io(error)),
    };
    let metadata = file.metadata().map_err(OpenError::io)?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !is_own || metadata.mode() & 0o077 != 0 || metadata.nlink() != 1 {
        return Err(exposed());
    }
    Ok(Some(file))
}

/// Options that neither follow a symlink nor wait for a FIFO.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}
