//! The decisions' copy on disk, so that an outage after a restart of the agent still finds them.
//!
//! A redb file: a crash at any instant leaves the last commit. All calls block; call them off the
//! logins' path.
//!
//! The file grants little. A restored decision is never fresh: it is used in an outage only, and an
//! allow only while it is younger than the stale TTL. The file contains no secret. It is bound to
//! the agent that wrote it, so a copy is unusable on another server. It is used only if it is a
//! regular file of the agent's own user that no other user can read or write, if all checksums are
//! right, and if its format is not newer than this program. Otherwise it is set aside, and the
//! agent starts without decisions. A file of the previous format is upgraded.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use resilience::{Changes, Records};

mod format;

use format::Codec;

/// Version of the format; changes when a reader of the old format would misread the new one.
const VERSION: &str = "2";
/// The previous version, without revocations.
const PREVIOUS_VERSION: &str = "1";
/// `version` and `agent_id`.
const METADATA: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
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
}

/// An open store and its content.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: DecisionStore,
    /// Its content.
    pub records: Records,
    /// The unusable file that was at its path; worth a warning.
    pub set_aside: Option<SetAside>,
}

/// An unusable file that [`DecisionStore::open`] renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its path now.
    pub path: PathBuf,
    /// Why it is unusable.
    pub reason: SetAsideReason,
}

/// Why a file is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetAsideReason {
    /// It is damaged.
    Damaged(String),
    /// A newer program wrote it, in this format version.
    Newer(String),
    /// Another agent, of this ID, wrote it.
    Foreign(String),
    /// It is not a file that only this agent's user can read and write.
    Exposed,
}

impl std::fmt::Display for SetAsideReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(problem) => write!(f, "it is damaged: {problem}"),
            Self::Newer(version) => write!(f, "a newer program wrote it, in format {version}"),
            Self::Foreign(agent) => write!(f, "agent {agent:?} wrote it"),
            Self::Exposed => f.write_str("other users can read or write it"),
        }
    }
}

impl SetAsideReason {
    fn suffix(&self) -> &'static str {
        match self {
            Self::Damaged(_) => "damaged",
            Self::Newer(_) => "newer",
            Self::Foreign(_) => "foreign",
            Self::Exposed => "exposed",
        }
    }
}

/// Why the store does not work; the agent runs without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("another process has it open")]
    InUse,
    /// The file system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database failed.
    #[error("{0}")]
    Database(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<Failed<E>> for StoreError {
    fn from(Failed(error): Failed<E>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Wraps any of redb's errors for its conversion.
struct Failed<E>(E);

/// Why a file was not opened.
enum OpenError {
    /// The file is unusable: a new file would open.
    Unusable(SetAsideReason),
    /// The environment prevents it: no file would open.
    Environment(StoreError),
}

impl<E: Into<redb::Error>> From<E> for OpenError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::Environment(StoreError::InUse),
            // redb reports a file of another format as an I/O error of these kinds.
            redb::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Environment(StoreError::Io(error))
            }
            error => Self::Unusable(SetAsideReason::Damaged(error.to_string())),
        }
    }
}

impl DecisionStore {
    /// Opens the file at `path`, or creates it, and reads all of it. An unusable file is renamed to
    /// `path` with the suffix `.damaged`, `.newer`, `.foreign` or `.exposed`, replacing the last
    /// such file.
    ///
    /// # Errors
    /// When the environment prevents it: no directory, no permission, no space, or another process
    /// has the file open.
    pub fn open(path: &Path, agent_id: &str) -> Result<OpenedStore, StoreError> {
        let reason = match open_verified(path, agent_id) {
            Ok((store, records)) => {
                return Ok(OpenedStore {
                    store,
                    records,
                    set_aside: None,
                });
            }
            Err(OpenError::Environment(error)) => return Err(error),
            Err(OpenError::Unusable(reason)) => reason,
        };
        let mut aside = path.as_os_str().to_owned();
        aside.push(".");
        aside.push(reason.suffix());
        let aside = PathBuf::from(aside);
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing is lost when a crash leaves the unusable file in place"
        )]
        fs::rename(path, &aside)?;
        match open_verified(path, agent_id) {
            Ok((store, records)) => Ok(OpenedStore {
                store,
                records,
                set_aside: Some(SetAside { path: aside, reason }),
            }),
            Err(OpenError::Environment(error)) => Err(error),
            Err(OpenError::Unusable(reason)) => Err(StoreError::Io(io::Error::other(reason.to_string()))),
        }
    }

    /// Writes changes durably.
    ///
    /// # Errors
    /// When the disk or the database fails; the file is then unchanged.
    pub fn save(&self, changes: &Changes) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(Failed)?;
        {
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
        }
        transaction.commit().map_err(Failed)?;
        Ok(())
    }
}

/// Opens and verifies the file. A panic in redb counts as damage.
fn open_verified(path: &Path, agent_id: &str) -> Result<(DecisionStore, Records), OpenError> {
    catch_unwind(AssertUnwindSafe(|| open(path, agent_id))).unwrap_or_else(|_| {
        Err(OpenError::Unusable(SetAsideReason::Damaged(
            "reading it panicked".to_owned(),
        )))
    })
}

fn open(path: &Path, agent_id: &str) -> Result<(DecisionStore, Records), OpenError> {
    let (file, is_new) = open_file(path)?;
    let mut database = Builder::new().set_cache_size(PAGE_CACHE_SIZE).create_file(file)?;
    if is_new {
        create_tables(&database, agent_id)?;
    }
    // The version first: in a newer file everything else may differ.
    let version = metadata(&database, "version")?;
    if ![VERSION, PREVIOUS_VERSION].contains(&version.as_str()) {
        return Err(OpenError::Unusable(SetAsideReason::Newer(version)));
    }
    let agent = metadata(&database, "agent_id")?;
    if agent != agent_id {
        return Err(OpenError::Unusable(SetAsideReason::Foreign(agent)));
    }
    if version == PREVIOUS_VERSION {
        create_tables(&database, agent_id)?;
    }
    let codec = Codec::new(agent_id);
    let records = read(&database, &codec)?;
    if !database.check_integrity()? {
        return Err(damaged("a page has a wrong checksum"));
    }
    Ok((DecisionStore { database, codec }, records))
}

/// Creates the tables of a new file, or those that the previous version lacks.
fn create_tables(database: &Database, agent_id: &str) -> Result<(), OpenError> {
    let transaction = database.begin_write()?;
    transaction.open_table(METADATA)?.insert("version", VERSION)?;
    transaction.open_table(METADATA)?.insert("agent_id", agent_id)?;
    transaction.open_table(DECISIONS)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.commit()?;
    Ok(())
}

/// Returns an entry of the metadata.
fn metadata(database: &Database, name: &str) -> Result<String, OpenError> {
    let metadata = database.begin_read()?.open_table(METADATA)?;
    let value = metadata
        .get(name)?
        .ok_or_else(|| damaged("its metadata is incomplete"))?;
    Ok(value.value().to_owned())
}

fn read(database: &Database, codec: &Codec) -> Result<Records, OpenError> {
    let transaction = database.begin_read()?;
    let mut records = Records::default();
    for entry in transaction.open_table(DECISIONS)?.iter()? {
        let (key, value) = entry?;
        let decision = codec.decode(key.value(), value.value());
        records
            .decisions
            .push(decision.ok_or_else(|| damaged("an entry is invalid"))?);
    }
    for entry in transaction.open_table(REVOCATIONS)?.iter()? {
        let (key, value) = entry?;
        let revocation = codec.decode_revocation(key.value(), value.value());
        records
            .revocations
            .push(revocation.ok_or_else(|| damaged("an entry is invalid"))?);
    }
    Ok(records)
}

fn damaged(problem: &str) -> OpenError {
    OpenError::Unusable(SetAsideReason::Damaged(problem.to_owned()))
}

fn open_file(path: &Path) -> Result<(File, bool), OpenError> {
    let exists = match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(OpenError::Environment(error.into())),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(!exists).mode(0o600);
    // Do not follow a symlink or wait for a FIFO.
    options.custom_flags(
        (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
            .bits()
            .cast_signed(),
    );
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if exists && error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(OpenError::Unusable(SetAsideReason::Exposed));
        }
        Err(error) => return Err(OpenError::Environment(error.into())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| OpenError::Environment(error.into()))?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !is_own || metadata.mode() & 0o077 != 0 || metadata.nlink() != 1 {
        return Err(OpenError::Unusable(SetAsideReason::Exposed));
    }
    Ok((file, metadata.len() == 0))
}

#[cfg(test)]
mod tests;
