//! Events that the portal rejected for good, in a file that an operator can read: one JSON object
//! per line.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ocserv_agent_model::EventId;
use serde::{Deserialize, Serialize};
use storage::{FileError, sync_directory, with_suffix};

use crate::format::{self, EventRecord, QueuedEvent};
use crate::queue::Rejected;

/// Name of the file.
const FILE_NAME: &str = "dead-letters.jsonl";
/// Largest size of the file, in bytes.
pub const MAX_LEN: u64 = 16 << 20;

/// The file with the rejected events; clones share it.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    path: PathBuf,
    max_len: u64,
    /// Held by whoever changes the file.
    change: Arc<Mutex<()>>,
}

/// A rejected event in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// When it was queued.
    pub event: QueuedEvent,
    /// The portal's reason.
    pub problem: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// For whoever reads the file.
    event_id: String,
    problem: String,
    event: EventRecord,
}

impl DeadLetters {
    /// The file in `directory`.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE_NAME),
            max_len: MAX_LEN,
            change: Arc::default(),
        }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds those events durably that are not there yet; returns the number of those that had no
    /// room.
    ///
    /// # Errors
    /// When the disk fails, or the file is not this agent's alone: some of the events may be there.
    pub fn append(&self, rejected: &mut [Rejected]) -> io::Result<usize> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, mut length) = match self.open()? {
            Some(file) => {
                let length = file.metadata()?.len();
                (file, length)
            }
            None => (storage::create(&self.path)?, 0),
        };
        // A crash may have left half a line.
        let mut text = if length == 0 {
            String::new()
        } else {
            "\n".to_owned()
        };
        let mut lost = 0;
        let new = || rejected.iter().filter(|rejected| !rejected.is_in_file);
        for Rejected { event, problem, .. } in new() {
            let line = line(&DeadLetter {
                event: event.clone(),
                problem: problem.clone(),
            });
            length += u64::try_from(line.len()).unwrap_or(u64::MAX);
            if length > self.max_len {
                lost += 1;
            } else {
                text.push_str(&line);
            }
        }
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_directory(&self.path)?;
        for rejected in rejected {
            rejected.is_in_file = true;
        }
        Ok(lost)
    }

    /// Reads all events, the oldest first; lines that are none are left out.
    ///
    /// # Errors
    /// When the disk fails, or the file is not this agent's alone.
    pub fn read(&self) -> io::Result<Vec<DeadLetter>> {
        let Some(file) = self.open()? else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        file.take(self.max_len.saturating_mul(2))
            .read_to_end(&mut bytes)?;
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(parse).collect())
    }

    /// Removes letters that were [read](Self::read) durably, and not those with the same event ID
    /// that came later. Lines that are no events stay.
    ///
    /// # Errors
    /// As for [`Self::read`]: the file is as it was.
    pub fn remove(&self, ids: &[EventId]) -> io::Result<()> {
        let mut left: HashMap<&EventId, usize> = HashMap::new();
        for id in ids {
            *left.entry(id).or_default() += 1;
        }
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut file) = self.open()? else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // New letters come last.
        let mut is_removed = |line: &[u8]| {
            let id = parse(line).map(|letter| letter.event.event.event_id);
            let left = id.and_then(|id| left.get_mut(&id)).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        let mut kept = Vec::with_capacity(bytes.len());
        for line in bytes.split(|byte| *byte == b'\n') {
            if !line.is_empty() && !is_removed(line) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        }
        let temporary = with_suffix(&self.path, ".tmp");
        let mut new = storage::options().create(true).truncate(true).open(&temporary)?;
        new.write_all(&kept)?;
        new.sync_all()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the file is synced before, the directory after"
        )]
        fs::rename(&temporary, &self.path)?;
        sync_directory(&self.path)
    }

    fn open(&self) -> io::Result<Option<fs::File>> {
        storage::open_existing(&self.path).map_err(|error| match error {
            FileError::Io(error) => error,
            FileError::Exposed => io::Error::other(format!(
                "{} can be read or written by others",
                self.path.display()
            )),
        })
    }
}

fn line(letter: &DeadLetter) -> String {
    let line = Line {
        event_id: letter.event.event.event_id.to_string(),
        problem: letter.problem.clone(),
        event: format::record(&letter.event.event, letter.event.queued),
    };
    #[expect(
        clippy::expect_used,
        reason = "the line holds only strings, numbers and addresses"
    )]
    let mut text = serde_json::to_string(&line).expect("plain data serializes");
    text.push('\n');
    text
}

fn parse(line: &[u8]) -> Option<DeadLetter> {
    let Line { problem, event, .. } = serde_json::from_slice(line).ok()?;
    Some(DeadLetter {
        event: format::event(event)?,
        problem,
    })
}

#[cfg(test)]
mod tests;
