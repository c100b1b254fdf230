//! The decisions' copy on disk, so that an outage that meets a restart of the agent still finds them.
//!
//! A file of redb: a crash at any instant leaves the last commit. All calls block; the agent makes them on a thread of
//! its own and never on a login's path.
//!
//! What the file can do to rights is bounded. What is loaded from it is never fresh: it serves in an outage only, and
//! an allow only while it is younger than the stale TTL. It holds no secret and nothing that lets anyone in by itself.
//! It is bound to the agent that wrote it, so a copy is worth nothing on another server. It is believed only when it
//! is a regular file of the agent's own user that nobody else can read or write, when every page and every entry
//! carries its right checksum, and when it is not newer than this program. Otherwise it is set aside, and the agent
//! starts with no decisions. A file of the format before this one becomes one of this.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use resilience::{Changes, Records};

mod format;

use format::Seal;

/// The version of the format. It changes when a reader of the old one would misread the new one.
const VERSION: &str = "2";
/// The version before it, which knew no revocations.
const OLDER: &str = "1";
/// `version` and `agent_id`.
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// See [`format`].
const DECISIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("decisions");
/// See [`format`].
const REVOCATIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("revocations");
/// What redb may keep in memory, in bytes.
const PAGE_CACHE: usize = 1 << 20;

/// The decisions' copy on disk.
#[derive(Debug)]
pub struct DecisionStore {
    database: Database,
    seal: Seal,
}

/// A store that is ready, and what was in it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: DecisionStore,
    /// What it held.
    pub records: Records,
    /// The file that stood there and could not be used; worth a warning.
    pub set_aside: Option<SetAside>,
}

/// A file that could not be used and was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Why,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is damaged.
    Damaged(String),
    /// A newer program wrote it; carries its version.
    Newer(String),
    /// Another agent wrote it; carries that agent's name.
    Foreign(String),
    /// It is no file that only this agent's user can read and write.
    Exposed,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::Newer(version) => write!(f, "a newer program wrote it, in format {version}"),
            Self::Foreign(agent) => write!(f, "agent {agent:?} wrote it"),
            Self::Exposed => f.write_str("others than this agent's user may have written or read it"),
        }
    }
}

impl Why {
    fn suffix(&self) -> &'static str {
        match self {
            Self::Damaged(_) => "damaged",
            Self::Newer(_) => "newer",
            Self::Foreign(_) => "foreign",
            Self::Exposed => "exposed",
        }
    }
}

/// Why the store does not work. The agent goes on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error("another process has it open")]
    InUse,
    /// The file system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database refused.
    #[error("{0}")]
    Database(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<Failed<E>> for StoreError {
    fn from(Failed(error): Failed<E>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Any of redb's errors.
struct Failed<E>(E);

/// What stands in the way of using a file: something about the file, or something about the world.
enum Trouble {
    File(Why),
    World(StoreError),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::World(StoreError::InUse),
            // redb reports a file that is none of its own as an i/o error of this kind.
            redb::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::World(StoreError::Io(error))
            }
            error => Self::File(Why::Damaged(error.to_string())),
        }
    }
}

impl DecisionStore {
    /// Opens the file at `path`, or makes a new one, and reads all of it. A file that cannot be used is renamed to
    /// `path` with `.damaged`, `.newer`, `.foreign` or `.exposed` at its end, in place of the last such file.
    ///
    /// # Errors
    /// When the world does not let the file be used: no directory, no right, no space, or another process has it.
    pub fn open(path: &Path, agent_id: &str) -> Result<Opened, StoreError> {
        let why = match open_believed(path, agent_id) {
            Ok((store, records)) => {
                return Ok(Opened {
                    store,
                    records,
                    set_aside: None,
                });
            }
            Err(Trouble::World(error)) => return Err(error),
            Err(Trouble::File(why)) => why,
        };
        let mut aside = path.as_os_str().to_owned();
        aside.push(".");
        aside.push(why.suffix());
        let aside = PathBuf::from(aside);
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing is lost when a crash leaves the unusable file in place"
        )]
        fs::rename(path, &aside)?;
        match open_believed(path, agent_id) {
            Ok((store, records)) => Ok(Opened {
                store,
                records,
                set_aside: Some(SetAside { path: aside, why }),
            }),
            Err(Trouble::World(error)) => Err(error),
            Err(Trouble::File(why)) => Err(StoreError::Io(io::Error::other(why.to_string()))),
        }
    }

    /// Writes what changed; when it returns, the changes outlive a crash.
    ///
    /// # Errors
    /// When the disk or the database refuses; the file then holds what it held before.
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
                let (key, value) = self.seal.encode(record);
                decisions
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(Failed)?;
            }
            for revocation in &put.revocations {
                let (key, value) = self.seal.encode_revocation(revocation);
                revocations
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(Failed)?;
            }
        }
        transaction.commit().map_err(Failed)?;
        Ok(())
    }
}

/// redb is careful with damaged files, but where it is not, a panic in it is one more kind of damage.
fn open_believed(path: &Path, agent_id: &str) -> Result<(DecisionStore, Records), Trouble> {
    catch_unwind(AssertUnwindSafe(|| open(path, agent_id)))
        .unwrap_or_else(|_| Err(Trouble::File(Why::Damaged("reading it failed".to_owned()))))
}

fn open(path: &Path, agent_id: &str) -> Result<(DecisionStore, Records), Trouble> {
    let (file, is_new) = open_file(path)?;
    let mut database = Builder::new().set_cache_size(PAGE_CACHE).create_file(file)?;
    if is_new {
        prepare(&database, agent_id)?;
    }
    // The version first: a newer file may say everything else in another way.
    let version = about(&database, "version")?;
    if ![VERSION, OLDER].contains(&version.as_str()) {
        return Err(Trouble::File(Why::Newer(version)));
    }
    let agent = about(&database, "agent_id")?;
    if agent != agent_id {
        return Err(Trouble::File(Why::Foreign(agent)));
    }
    if version == OLDER {
        prepare(&database, agent_id)?;
    }
    let seal = Seal::new(agent_id);
    let records = read(&database, &seal)?;
    if !database.check_integrity()? {
        return Err(damaged("a page is not what was written"));
    }
    Ok((DecisionStore { database, seal }, records))
}

/// Makes a file, or makes what an older one lacks.
fn prepare(database: &Database, agent_id: &str) -> Result<(), Trouble> {
    let transaction = database.begin_write()?;
    transaction.open_table(ABOUT)?.insert("version", VERSION)?;
    transaction.open_table(ABOUT)?.insert("agent_id", agent_id)?;
    transaction.open_table(DECISIONS)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.commit()?;
    Ok(())
}

/// What the file says about itself.
fn about(database: &Database, name: &str) -> Result<String, Trouble> {
    let about = database.begin_read()?.open_table(ABOUT)?;
    let value = about
        .get(name)?
        .ok_or_else(|| damaged("it does not say what it is"))?;
    Ok(value.value().to_owned())
}

fn read(database: &Database, seal: &Seal) -> Result<Records, Trouble> {
    let transaction = database.begin_read()?;
    let mut records = Records::default();
    for entry in transaction.open_table(DECISIONS)?.iter()? {
        let (key, value) = entry?;
        let decision = seal.decode(key.value(), value.value());
        records
            .decisions
            .push(decision.ok_or_else(|| damaged("an entry is not what was written"))?);
    }
    for entry in transaction.open_table(REVOCATIONS)?.iter()? {
        let (key, value) = entry?;
        let revocation = seal.decode_revocation(key.value(), value.value());
        records
            .revocations
            .push(revocation.ok_or_else(|| damaged("an entry is not what was written"))?);
    }
    Ok(records)
}

fn damaged(what: &str) -> Trouble {
    Trouble::File(Why::Damaged(what.to_owned()))
}

fn open_file(path: &Path) -> Result<(File, bool), Trouble> {
    let exists = match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Trouble::World(error.into())),
    };
    let mut how = OpenOptions::new();
    how.read(true).write(true).create_new(!exists).mode(0o600);
    // Nothing but a file that we own is followed, waited for or written to.
    how.custom_flags(
        (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
            .bits()
            .cast_signed(),
    );
    let file = match how.open(path) {
        Ok(file) => file,
        Err(error) if exists && error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(Trouble::File(Why::Exposed));
        }
        Err(error) => return Err(Trouble::World(error.into())),
    };
    let metadata = file.metadata().map_err(|error| Trouble::World(error.into()))?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 || metadata.nlink() != 1 {
        return Err(Trouble::File(Why::Exposed));
    }
    Ok((file, metadata.len() == 0))
}

#[cfg(test)]
mod tests;
