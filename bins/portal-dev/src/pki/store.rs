//! Writes the files of a PKI directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use super::issue::File;

/// Writes all files to `dir`, keys with mode 0600. Without `force` it writes nothing if any of them
/// exists.
pub(super) fn store(dir: &Path, files: &[File], force: bool) -> anyhow::Result<()> {
    let path = dir.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("could not create the directory {path}"))?;
    if !force {
        let exists = |file: &&File| fs::symlink_metadata(dir.join(&file.name)).is_ok();
        if let Some(file) = files.iter().find(exists) {
            bail!(
                "{path} already contains {}; --force replaces all files",
                file.name
            );
        }
    }
    for file in files {
        let path = dir.join(&file.name);
        write(&path, file, force).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// Creates a new file: its mode is correct from the start, and a symlink is not followed.
fn write(path: &Path, file: &File, force: bool) -> std::io::Result<()> {
    if force {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let mode = if file.secret { 0o600 } else { 0o644 };
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    out.write_all(file.pem.as_bytes())?;
    out.sync_all()
}
