//! Opening and checking the file, and replacing one that cannot be used.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, ReadableDatabase, ReadableTable};

use super::error::{FileProblem, Incident, OpenError, StoreError};
use super::generation::GenerationFile;
use super::salvage;
use super::schema::{EVENTS, Loaded, METADATA, SESSIONS, SessionKey, VERSION, create_tables, verified_row};
use crate::format;

/// Memory for redb's pages, in bytes.
const PAGE_CACHE_SIZE: usize = 1 << 20;

/// See [`super::Store::open`].
pub(super) fn open_or_replace(
    path: &Path,
    agent_id: &str,
    mut report: impl FnMut(&Incident),
) -> Result<(Database, Loaded), StoreError> {
    salvage::finish(path)?;
    let problem = match open_verified(path, agent_id, &mut report) {
        Ok(opened) => return Ok(opened),
        Err(OpenError::Environment(error)) => return Err(error),
        Err(OpenError::Unusable(problem)) => problem,
    };
    // What is recovered is written before the damaged file is renamed: after a crash before that
    // this is repeated, after one behind it `salvage::finish` ends it.
    let recovered = match &problem {
        FileProblem::Damaged(_) => salvage::salvage(path, agent_id)?,
        FileProblem::Outdated | FileProblem::Missing | FileProblem::Foreign(_) | FileProblem::Exposed => None,
    };
    let aside = storage::set_aside(path, problem.label())?;
    if let Some((recovered, _)) = &recovered {
        #[expect(
            clippy::disallowed_methods,
            reason = "the database is synced before, the directory after"
        )]
        fs::rename(recovered, path)?;
    }
    storage::sync_directory(path)?;
    // A foreign file may have counted further.
    GenerationFile::beside(path).write(0)?;
    report(&Incident {
        problem,
        aside: Some(aside),
        recovered: recovered.map_or(0, |(_, events)| events),
    });
    open_verified(path, agent_id, &mut report).map_err(|error| match error {
        OpenError::Environment(error) => error,
        OpenError::Unusable(problem) => StoreError::Io(io::Error::other(problem.to_string())),
    })
}

/// Opens and verifies the store. A panic in redb counts as damage.
fn open_verified(
    path: &Path,
    agent_id: &str,
    report: &mut impl FnMut(&Incident),
) -> Result<(Database, Loaded), OpenError> {
    catch_unwind(AssertUnwindSafe(|| open(path, agent_id, report)))
        .unwrap_or_else(|_| Err(OpenError::damaged("reading it panicked")))
}

fn open(
    path: &Path,
    agent_id: &str,
    report: &mut impl FnMut(&Incident),
) -> Result<(Database, Loaded), OpenError> {
    let generation_file = GenerationFile::beside(path);
    let expected = generation_file.read()?;
    let existing = storage::open_existing(path).map_err(OpenError::file)?;
    let is_new = existing.is_none();
    let file = match existing {
        Some(file) => file,
        None => storage::create(path).map_err(OpenError::io)?,
    };
    if !is_new && file.metadata().map_err(OpenError::io)?.len() == 0 {
        return Err(OpenError::damaged("it is empty"));
    }
    let mut database = Builder::new().set_cache_size(PAGE_CACHE_SIZE).create_file(file)?;
    if is_new {
        create_tables(&database, agent_id)?;
    } else {
        check_metadata(&database, agent_id)?;
        // Before anything else is read: it finds what redb would stumble over.
        if !database.check_integrity()? {
            return Err(OpenError::damaged("a page has a wrong checksum"));
        }
    }
    let loaded = load(&database)?;
    let found = generation(&database)?;
    if found < expected {
        let problem = if is_new {
            FileProblem::Missing
        } else {
            FileProblem::Outdated
        };
        report(&Incident {
            problem,
            aside: None,
            recovered: 0,
        });
    }
    let next = found.max(expected) + 1;
    set_generation(&database, next)?;
    generation_file.write(next).map_err(OpenError::io)?;
    Ok((database, loaded))
}

/// Checks that this program and this agent may use the file.
fn check_metadata(database: &Database, agent_id: &str) -> Result<(), OpenError> {
    let required = |name| {
        let value = metadata(database, name)?;
        value.ok_or_else(|| OpenError::damaged("its metadata is incomplete"))
    };
    // The version first: in a newer file everything else may differ.
    let version = required("version")?;
    if version != VERSION {
        return Err(OpenError::Environment(StoreError::Newer(version)));
    }
    let agent = required("agent_id")?;
    if agent != agent_id {
        return Err(OpenError::Unusable(FileProblem::Foreign(agent)));
    }
    Ok(())
}

fn generation(database: &Database) -> Result<u64, OpenError> {
    let number = metadata(database, "generation")?.and_then(|text| text.parse().ok());
    number.ok_or_else(|| OpenError::damaged("its generation is invalid"))
}

fn set_generation(database: &Database, generation: u64) -> Result<(), OpenError> {
    let transaction = database.begin_write()?;
    transaction
        .open_table(METADATA)?
        .insert("generation", generation.to_string().as_str())?;
    transaction.commit()?;
    Ok(())
}

/// Returns an entry of the metadata.
fn metadata(database: &Database, name: &str) -> Result<Option<String>, OpenError> {
    let metadata = database.begin_read()?.open_table(METADATA)?;
    let value = metadata.get(name)?;
    Ok(value.map(|value| value.value().to_owned()))
}

/// Reads the rows of sessions, and checks every event.
fn load(database: &Database) -> Result<Loaded, OpenError> {
    let transaction = database.begin_read()?;
    let mut loaded = Loaded::default();
    for entry in transaction.open_table(EVENTS)?.iter()? {
        let (sequence, value) = entry?;
        let (sequence, bytes) = (sequence.value(), value.value());
        if !format::is_intact(sequence, bytes) {
            return Err(OpenError::damaged("an event is invalid"));
        }
        loaded.events += 1;
        loaded.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        loaded.last = Some(sequence);
    }
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (key, value) = entry?;
        let key = key.value();
        let row = verified_row(key, value.value());
        let row = row.ok_or_else(|| OpenError::damaged("the row of a session is invalid"))?;
        loaded.sessions.push((SessionKey(key.to_owned()), row.to_owned()));
    }
    Ok(loaded)
}
