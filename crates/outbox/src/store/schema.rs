//! The tables of the file.

use redb::{Database, TableDefinition};

use super::error::OpenError;

/// Version of the file's format; changes when a reader of the old format would misread the new one.
pub(super) const VERSION: &str = "1";
/// `version`, `agent_id` and `generation`.
pub(super) const METADATA: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// Events by sequence; see [`crate::format`].
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// Rows of sessions, each with a checksum.
pub(super) const SESSIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("sessions");

/// What a store had when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The number of events.
    pub events: usize,
    /// The bytes of the events.
    pub bytes: u64,
    /// The highest sequence of an event.
    pub last: Option<u64>,
    /// The rows of sessions.
    pub sessions: Vec<(SessionKey, Vec<u8>)>,
}

/// The key of a session's row; its meaning is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub Vec<u8>);

/// Creates the tables of a new file.
pub(super) fn create_tables(database: &Database, agent_id: &str) -> Result<(), OpenError> {
    let transaction = database.begin_write()?;
    transaction.open_table(METADATA)?.insert("version", VERSION)?;
    transaction.open_table(METADATA)?.insert("agent_id", agent_id)?;
    transaction.open_table(METADATA)?.insert("generation", "0")?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(SESSIONS)?;
    transaction.commit()?;
    Ok(())
}

/// A row with its checksum.
pub(super) fn checked_row(key: &[u8], row: &[u8]) -> Vec<u8> {
    let mut bytes = row_checksum(key, row).to_be_bytes().to_vec();
    bytes.extend_from_slice(row);
    bytes
}

/// The row in `bytes`; `None` when its checksum is wrong.
pub(super) fn verified_row<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, row) = bytes.split_at_checked(size_of::<u64>())?;
    (sum == row_checksum(key, row).to_be_bytes()).then_some(row)
}

fn row_checksum(key: &[u8], row: &[u8]) -> u64 {
    let with_key = storage::checksum(storage::CHECKSUM_START, key);
    // The length between the two detects a byte that moved from one to the other.
    storage::checksum(storage::checksum(with_key, &key.len().to_be_bytes()), row)
}
