//! The decisions' copy on disk, so that an outage after a restart of the agent still finds them.
//!
//! A redb file, and beside it a [sequence file](sequence): a crash at any instant leaves the last
//! commit. What [`DecisionStore::save`] has returned for is on the disk. All calls block; call them
//! off the logins' path.
//!
//! The file grants little. A restored decision is never fresh: it is used in an outage only, and an
//! allow only while it is younger than the stale TTL. The file contains no secret. It is bound to
//! the agent that wrote it, so a copy is unusable on another server. It is used only if it is a
//! regular file of the agent's own user that no other user can read or write, if all checksums are
//! right, if it has the last commit, and if its format is not newer than this program. Otherwise it
//! is set aside, and the agent starts without decisions. A file of a previous format is upgraded.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use resilience::{Changes, Records};

mod error;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod sequence;
mod set_aside;

use error::{Failed, OpenError};
use format::Codec;
use sequence::SequenceFile;

pub use error::StoreError;
pub use set_aside::{SetAside, SetAsideReason};

/// Version of the format; changes when a reader of the old format would misread the new one.
const VERSION: &str = "3";
/// The previous versions: 1 had no revocations, and neither had a sequence number.
const PREVIOUS_VERSIONS: [&str; 2] = ["1", "2"];
/// `version`, `agent_id`, and the following ones.
const METADATA: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// The number of the last commit.
const SEQUENCE: &str = "sequence";
/// Present in a store that took the place of an unusable one.
const INCOMPLETE: &str = "incomplete";
/// See [`format`].
const DECISIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("decisions");
/// See [`format`].
const REVOCATIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("revocations");
/// Memory for redb's pages, in bytes.
const PAGE_CACHE_SIZE: usize = 1 << 20;

/// The decisions' copy on disk.
#[derive(Debug)]
pub struct DecisionStore {
    database: Database,
    codec: Codec,
    sequence_file: SequenceFile,
    /// The number of the last commit.
    sequence: u64,
}

/// An open store and its content.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: DecisionStore,
    /// Its content.
    pub records: Records,
    /// Whether it has all records of this agent: `false` in a store that took the place of an
    /// unusable one, until both files are removed.
    pub is_complete: bool,
}

impl DecisionStore {
    /// Opens the store at `path`, or creates it, and reads all of it. An unusable file is renamed
    /// to `path` with the suffix `.damaged`, `.outdated`, `.newer`, `.foreign` or `.exposed`,
    /// replacing the last such file, `report` is called, and an empty store takes its place.
    ///
    /// # Errors
    /// When the environment prevents it: no directory, no permission, no space, or another process
    /// has the file open.
    pub fn open(
        path: &Path,
        agent_id: &str,
        report: impl FnOnce(&SetAside),
    ) -> Result<OpenedStore, StoreError> {
        let reason = match open_verified(path, agent_id, None) {
            Ok(opened) => return Ok(opened),
            Err(OpenError::Environment(error)) => return Err(error),
            Err(OpenError::Unusable(reason)) => reason,
        };
        // Before anything else can fail, so that the loss is reported in any case.
        report(&reason.set_aside(path)?);
        // A crash before the new database leaves a sequence file alone, which is reported too.
        let last = SequenceFile::beside(path).restart(&Codec::new(agent_id))?;
        open_verified(path, agent_id, Some(last)).map_err(|error| match error {
            OpenError::Environment(error) => error,
            OpenError::Unusable(reason) => StoreError::Io(io::Error::other(reason.to_string())),
        })
    }

    /// Writes changes durably.
    ///
    /// # Errors
    /// When the disk or the database fails: the changes are stored or not. Open the store again,
    /// and save all records.
    pub fn save(&mut self, changes: &Changes) -> Result<(), StoreError> {
        // Also when this fails, so that no number stands for two contents.
        self.sequence += 1;
        let transaction = self.database.begin_write().map_err(Failed)?;
        transaction
            .open_table(METADATA)
            .map_err(Failed)?
            .insert(SEQUENCE, self.sequence.to_string().as_str())
            .map_err(Failed)?;
        self.put(&transaction, changes)?;
        transaction.commit().map_err(Failed)?;
        self.sequence_file.write(self.sequence, &self.codec)?;
        Ok(())
    }

    fn put(&self, transaction: &WriteTransaction, changes: &Changes) -> Result<(), StoreError> {
        let mut decisions = transaction.open_table(DECISIONS).map_err(Failed)?;
        let mut revocations = transaction.open_table(REVOCATIONS).map_err(Failed)?;
        let put = match changes {
            Changes::Full(records) => {
                decisions.retain(|_, _| false).map_err(Failed)?;
                revocations.retain(|_, _| false).map_err(Failed)?;
                records
            }
            Changes::Partial {
                put,
                removed_answers,
                removed_revocations,
            } => {
                for key in removed_answers {
                    decisions.remove(format::key(key).as_slice()).map_err(Failed)?;
                }
                for user in removed_revocations {
                    revocations
                        .remove(format::user(user).as_slice())
                        .map_err(Failed)?;
                }
                put
            }
        };
        for record in &put.decisions {
            let (key, value) = self.codec.encode(record);
            decisions
                .insert(key.as_slice(), value.as_slice())
                .map_err(Failed)?;
        }
        for revocation in &put.revocations {
            let (key, value) = self.codec.encode_revocation(revocation);
            revocations
                .insert(key.as_slice(), value.as_slice())
                .map_err(Failed)?;
        }
        Ok(())
    }
}

/// Opens and verifies the store. A panic in redb counts as damage. `last` is the number of the last
/// commit of the unusable store whose place a new one takes.
fn open_verified(path: &Path, agent_id: &str, last: Option<u64>) -> Result<OpenedStore, OpenError> {
    catch_unwind(AssertUnwindSafe(|| open(path, agent_id, last)))
        .unwrap_or_else(|_| Err(OpenError::damaged("reading it panicked")))
}

fn open(path: &Path, agent_id: &str, last: Option<u64>) -> Result<OpenedStore, OpenError> {
    let codec = Codec::new(agent_id);
    let sequence_file = SequenceFile::beside(path);
    let mut database = open_database(path, agent_id, &sequence_file, last)?;
    let sequence = verified_sequence(&database, &sequence_file, &codec)?;
    if metadata(&database, "version")?.as_deref() != Some(VERSION) {
        create_tables(&database, agent_id, None)?;
    }
    let records = read(&database, &codec)?;
    let is_complete = metadata(&database, INCOMPLETE)?.is_none();
    if !database.check_integrity()? {
        return Err(OpenError::damaged("a page has a wrong checksum"));
    }
    let store = DecisionStore {
        database,
        codec,
        sequence_file,
        sequence,
    };
    Ok(OpenedStore {
        store,
        records,
        is_complete,
    })
}

/// Opens the database, or creates it; checks that this program and this agent may use it.
fn open_database(
    path: &Path,
    agent_id: &str,
    sequence_file: &SequenceFile,
    last: Option<u64>,
) -> Result<Database, OpenError> {
    let existing = storage::open_existing(path).map_err(OpenError::file)?;
    if existing.is_none() && last.is_none() && sequence_file.exists().map_err(OpenError::io)? {
        return Err(OpenError::Unusable(SetAsideReason::Missing));
    }
    let (file, is_new) = match existing {
        Some(file) => (file, false),
        None => (storage::create(path).map_err(OpenError::io)?, true),
    };
    if !is_new && file.metadata().map_err(OpenError::io)?.len() == 0 {
        return Err(OpenError::damaged("it is empty"));
    }
    let database = Builder::new().set_cache_size(PAGE_CACHE_SIZE).create_file(file)?;
    if is_new {
        create_tables(&database, agent_id, last)?;
    }
    let required = |name| {
        let value = metadata(&database, name)?;
        value.ok_or_else(|| OpenError::damaged("its metadata is incomplete"))
    };
    // The version first: in a newer file everything else may differ.
    let version = required("version")?;
    if version != VERSION && !PREVIOUS_VERSIONS.contains(&version.as_str()) {
        return Err(OpenError::Unusable(SetAsideReason::Newer(version)));
    }
    let agent = required("agent_id")?;
    if agent != agent_id {
        return Err(OpenError::Unusable(SetAsideReason::Foreign(agent)));
    }
    Ok(database)
}

/// Creates the tables of a new file, or those that the previous version lacks. A new file that
/// takes the place of one with the commit `last` goes on counting there, so that no copy of that
/// one passes for the new one.
fn create_tables(database: &Database, agent_id: &str, last: Option<u64>) -> Result<(), OpenError> {
    let transaction = database.begin_write()?;
    transaction.open_table(METADATA)?.insert("version", VERSION)?;
    transaction.open_table(METADATA)?.insert("agent_id", agent_id)?;
    if let Some(last) = last {
        let first = last.saturating_add(1).to_string();
        transaction
            .open_table(METADATA)?
            .insert(SEQUENCE, first.as_str())?;
        transaction.open_table(METADATA)?.insert(INCOMPLETE, "1")?;
    }
    transaction.open_table(DECISIONS)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.commit()?;
    Ok(())
}

/// Returns the number of the last commit in the database; refuses a database that lacks a later
/// one, and one of another store that had more.
fn verified_sequence(
    database: &Database,
    sequence_file: &SequenceFile,
    codec: &Codec,
) -> Result<u64, OpenError> {
    // Databases of the previous versions have none, and new ones none yet.
    let found = match metadata(database, SEQUENCE)? {
        Some(sequence) => sequence
            .parse()
            .map_err(|_| OpenError::damaged("its sequence number is invalid"))?,
        None => 0,
    };
    match sequence_file.read(codec)? {
        // One ahead after a crash between a commit and its sequence file.
        Some(expected) if found < expected || found > expected.saturating_add(1) => {
            return Err(OpenError::Unusable(SetAsideReason::Outdated { found, expected }));
        }
        Some(expected) if found == expected => return Ok(found),
        None if found > 0 => return Err(OpenError::damaged("its sequence file is gone")),
        // A crash after the commit, or a database that is new.
        Some(_) | None => {}
    }
    sequence_file.write(found, codec).map_err(OpenError::io)?;
    Ok(found)
}

/// Returns an entry of the metadata.
fn metadata(database: &Database, name: &str) -> Result<Option<String>, OpenError> {
    let metadata = database.begin_read()?.open_table(METADATA)?;
    let value = metadata.get(name)?;
    Ok(value.map(|value| value.value().to_owned()))
}

fn read(database: &Database, codec: &Codec) -> Result<Records, OpenError> {
    let invalid = || OpenError::damaged("an entry is invalid");
    let transaction = database.begin_read()?;
    let mut records = Records::default();
    for entry in transaction.open_table(DECISIONS)?.iter()? {
        let (key, value) = entry?;
        let decision = codec.decode(key.value(), value.value());
        records.decisions.push(decision.ok_or_else(invalid)?);
    }
    for entry in transaction.open_table(REVOCATIONS)?.iter()? {
        let (key, value) = entry?;
        let revocation = codec.decode_revocation(key.value(), value.value());
        records.revocations.push(revocation.ok_or_else(invalid)?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
