//! Recovers what can be read of a damaged file.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, WriteTransaction};
use storage::with_suffix;

use super::error::{Failed, OpenError, StoreError};
use super::schema::{EVENTS, SESSIONS, create_tables, verified_row};
use crate::format;

/// Puts the recovered database at `path` where a crash came before that, and nothing is there.
///
/// # Errors
/// When the directory cannot be changed.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    let recovered = recovered_path(path);
    if path.try_exists()? || !recovered.try_exists()? {
        return Ok(());
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the database was synced before the damaged file was renamed, the directory after"
    )]
    fs::rename(&recovered, path)?;
    storage::sync_directory(path)
}

fn recovered_path(path: &Path) -> PathBuf {
    with_suffix(path, ".recovered")
}

/// Copies the events and the rows of the database at `path` that can be read to a new database
/// beside it, each of them proved by its checksum. Returns the path of that database and the number
/// of its events; `None` when nothing can be read.
///
/// # Errors
/// When the new database cannot be written.
pub(super) fn salvage(path: &Path, agent_id: &str) -> Result<Option<(PathBuf, usize)>, StoreError> {
    let new = recovered_path(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let Some(old) = catch(|| open_damaged(path)).flatten() else {
        return Ok(None);
    };
    let database = Builder::new()
        .create_file(storage::create(&new)?)
        .map_err(Failed)?;
    create_tables(&database, agent_id).map_err(|error| match error {
        OpenError::Environment(error) => error,
        OpenError::Unusable(problem) => StoreError::Io(io::Error::other(problem.to_string())),
    })?;
    let transaction = database.begin_write().map_err(Failed)?;
    let mut events = 0;
    copy_events(&old, &transaction, &mut events)?;
    copy_rows(&old, &transaction)?;
    transaction.commit().map_err(Failed)?;
    // Closing a damaged database may panic too.
    let _closed = catch(|| drop(old));
    Ok(Some((new, events)))
}

fn open_damaged(path: &Path) -> Option<Database> {
    let file = storage::open_existing(path).ok()??;
    Builder::new().create_file(file).ok()
}

/// Copies the events from both ends up to what cannot be read.
fn copy_events(old: &Database, new: &WriteTransaction, copied: &mut usize) -> Result<(), StoreError> {
    let mut table = new.open_table(EVENTS).map_err(Failed)?;
    let mut failure = None;
    let mut copy = |sequence: u64, bytes: &[u8]| {
        if format::is_intact(sequence, bytes) && failure.is_none() {
            match table.insert(sequence, bytes) {
                Ok(replaced) => *copied += usize::from(replaced.is_none()),
                Err(error) => failure = Some(StoreError::from(Failed(error))),
            }
        }
    };
    let _all_or_panicked = catch(|| -> Option<()> {
        let events = old.begin_read().ok()?.open_table(EVENTS).ok()?;
        let mut last = None;
        for entry in events.iter().ok()? {
            let Ok((sequence, value)) = entry else { break };
            // A damaged page may lead back to one before it.
            if last.is_some_and(|last| last >= sequence.value()) {
                break;
            }
            last = Some(sequence.value());
            copy(sequence.value(), value.value());
        }
        Some(())
    });
    let _all_or_panicked = catch(|| -> Option<()> {
        let events = old.begin_read().ok()?.open_table(EVENTS).ok()?;
        let mut last = None;
        for entry in events.iter().ok()?.rev() {
            let Ok((sequence, value)) = entry else { break };
            if last.is_some_and(|last| last <= sequence.value()) {
                break;
            }
            last = Some(sequence.value());
            copy(sequence.value(), value.value());
        }
        Some(())
    });
    failure.map_or(Ok(()), Err)
}

fn copy_rows(old: &Database, new: &WriteTransaction) -> Result<(), StoreError> {
    let mut table = new.open_table(SESSIONS).map_err(Failed)?;
    let mut failure = None;
    let _all_or_panicked = catch(|| -> Option<()> {
        let rows = old.begin_read().ok()?.open_table(SESSIONS).ok()?;
        let mut last: Option<Vec<u8>> = None;
        for entry in rows.iter().ok()? {
            let Ok((key, value)) = entry else { break };
            let (key, value) = (key.value(), value.value());
            if last.as_deref().is_some_and(|last| last >= key) {
                break;
            }
            last = Some(key.to_owned());
            if verified_row(key, value).is_some()
                && let Err(error) = table.insert(key, value)
            {
                failure = Some(StoreError::from(Failed(error)));
                break;
            }
        }
        Some(())
    });
    failure.map_or(Ok(()), Err)
}

/// Calls `read`; `None` when it panics.
fn catch<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}
