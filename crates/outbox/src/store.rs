//! The events on disk, and beside them rows of the sessions.
//!
//! A redb file: a crash at any instant leaves the last commit, and what [`Store::commit`] has
//! returned for is on the disk. One commit has events and rows of sessions together, so that they
//! never contradict each other after a crash. All calls block.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use crate::format::{self, QueuedEvent};

mod error;
mod generation;
mod open;
mod salvage;
mod schema;

use error::Failed;
use schema::{EVENTS, SESSIONS, checked_row};

pub use error::{FileProblem, Incident, StoreError};
pub use schema::{Loaded, SessionKey};

/// The events on disk.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// An encoded event with its sequence.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub(crate) sequence: u64,
    pub(crate) bytes: Arc<[u8]>,
}

impl NewEvent {
    /// Encodes an event. Events with a higher `sequence` are later ones.
    #[must_use]
    pub fn new(sequence: u64, event: &QueuedEvent) -> Self {
        let bytes = format::encode(sequence, &event.event, event.queued).into();
        Self { sequence, bytes }
    }

    pub(crate) fn encoded(sequence: u64, bytes: &Arc<[u8]>) -> Self {
        Self {
            sequence,
            bytes: Arc::clone(bytes),
        }
    }
}

/// The changes of one commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// New events. One with the sequence of an event that is stored replaces it.
    pub events: Vec<NewEvent>,
    /// The sequences of events to remove, stored or not.
    pub settled: Vec<u64>,
    /// Rows of sessions to write; `None` removes the row.
    pub sessions: Vec<(SessionKey, Option<Vec<u8>>)>,
}

impl Batch {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.settled.is_empty() && self.sessions.is_empty()
    }
}

/// Events read from the store.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The events with their sequences and their bytes, in order.
    pub events: Vec<(u64, QueuedEvent, u64)>,
    /// The sequences of events that cannot be read, and their bytes.
    pub damaged: Vec<(u64, u64)>,
    /// Where to read on; `None` after the last event.
    pub next: Option<u64>,
}

impl Store {
    /// Opens the store at `path`, or creates it, and checks all of it. A damaged file is renamed to
    /// `path` with the suffix `.damaged`, replacing the last such file, and what could be read of
    /// it is kept; one of another agent, or that others can read, is renamed likewise and not used.
    /// `report` is called for each.
    ///
    /// # Errors
    /// When the environment prevents it: no directory, no permission, no space, another process has
    /// the file open, or a newer program wrote it.
    pub fn open(
        path: &Path,
        agent_id: &str,
        report: impl FnMut(&Incident),
    ) -> Result<(Self, Loaded), StoreError> {
        let (database, loaded) = open::open_or_replace(path, agent_id, report)?;
        Ok((Self { database }, loaded))
    }

    /// Writes changes durably, all or none of them.
    ///
    /// # Errors
    /// When the disk or the database fails: the changes are stored or not. Open the store again and
    /// repeat them.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(Failed)?;
        {
            let mut events = transaction.open_table(EVENTS).map_err(Failed)?;
            for sequence in &batch.settled {
                events.remove(sequence).map_err(Failed)?;
            }
            for NewEvent { sequence, bytes } in &batch.events {
                events.insert(sequence, &**bytes).map_err(Failed)?;
            }
            let mut sessions = transaction.open_table(SESSIONS).map_err(Failed)?;
            for (SessionKey(key), row) in &batch.sessions {
                match row {
                    Some(row) => {
                        sessions
                            .insert(key.as_slice(), checked_row(key, row).as_slice())
                            .map_err(Failed)?;
                    }
                    None => {
                        sessions.remove(key.as_slice()).map_err(Failed)?;
                    }
                }
            }
        }
        transaction.commit().map_err(Failed)?;
        Ok(())
    }

    /// Reads at most `limit` events from the sequence `from` on.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn read(&self, from: u64, limit: usize) -> Result<Chunk, StoreError> {
        let transaction = self.database.begin_read().map_err(Failed)?;
        let table = transaction.open_table(EVENTS).map_err(Failed)?;
        let mut chunk = Chunk::default();
        for entry in table.range(from..).map_err(Failed)? {
            let (sequence, value) = entry.map_err(Failed)?;
            let sequence = sequence.value();
            if chunk.events.len() + chunk.damaged.len() >= limit {
                chunk.next = Some(sequence);
                break;
            }
            let bytes = value.value();
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            match format::decode(sequence, bytes) {
                Some(event) => chunk.events.push((sequence, event, length)),
                None => chunk.damaged.push((sequence, length)),
            }
        }
        Ok(chunk)
    }

    /// Returns the number of events from the sequence `from` on, and their bytes.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn count(&self, from: u64, is_counted: impl Fn(u64) -> bool) -> Result<(usize, u64), StoreError> {
        let transaction = self.database.begin_read().map_err(Failed)?;
        let table = transaction.open_table(EVENTS).map_err(Failed)?;
        let (mut events, mut bytes) = (0, 0);
        for entry in table
            .range((Bound::Included(from), Bound::Unbounded))
            .map_err(Failed)?
        {
            let (sequence, value) = entry.map_err(Failed)?;
            if is_counted(sequence.value()) {
                events += 1;
                bytes += u64::try_from(value.value().len()).unwrap_or(u64::MAX);
            }
        }
        Ok((events, bytes))
    }

    /// Makes a file small again after most of its events were removed; `true` when it became
    /// smaller.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        Ok(self.database.compact().map_err(Failed)?)
    }
}

#[cfg(test)]
mod tests;
