//! The files of a PKI directory.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use super::issue::File;

/// Writes all files into `dir`, keys for their owner's eyes alone. Without `force` it writes nothing where any of them
/// exists.
pub(super) fn store(dir: &Path, files: &[File], force: bool) -> anyhow::Result<()> {
    let place = dir.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("could not make the directory {place}"))?;
    if !force {
        let there = |file: &&File| fs::symlink_metadata(dir.join(&file.name)).is_ok();
        if let Some(file) = files.iter().find(there) {
            bail!(
                "{place} holds a {} already; --force makes everything in it anew",
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

/// Makes a new file, so that its mode is right from the first byte and a link in its place is not followed.
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
