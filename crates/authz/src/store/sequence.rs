//! The sequence file: the number of the last commit, in a file beside the database.
//!
//! A database whose newest pages are damaged opens with the commit before, and nothing in it says
//! that a later one existed. The number beside it does. It is written after each commit, so a crash
//! between the two leaves a database that is newer than its sequence file, which is right.
//!
//! The file is one line: `1 SEQUENCE CHECKSUM`, 1 being the version of the format. It is replaced
//! whole.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use storage::{sync_directory, with_suffix};

use super::error::OpenError;
use super::format::Codec;

/// Version of the format.
const VERSION: &str = "1";
/// Longest content, in bytes: far above that of any sequence.
const MAX_LEN: u64 = 64;

/// The sequence file of one database.
#[derive(Debug)]
pub(super) struct SequenceFile {
    path: PathBuf,
}

impl SequenceFile {
    /// The file of the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: with_suffix(path, ".sequence"),
        }
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    /// Reads the number; `None` when there is no file.
    pub(super) fn read(&self, codec: &Codec) -> Result<Option<u64>, OpenError> {
        let Some(file) = storage::open_existing(&self.path).map_err(OpenError::file)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(MAX_LEN)
            .read_to_end(&mut content)
            .map_err(OpenError::io)?;
        match decode(&content, codec) {
            Some(sequence) => Ok(Some(sequence)),
            None => Err(OpenError::damaged("its sequence file is damaged")),
        }
    }

    /// Writes the number durably.
    pub(super) fn write(&self, sequence: u64, codec: &Codec) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".tmp");
        let mut file = storage::options().create(true).truncate(true).open(&temporary)?;
        file.write_all(encode(sequence, codec).as_bytes())?;
        file.sync_all()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the file is synced before, the directory after"
        )]
        fs::rename(&temporary, &self.path)?;
        sync_directory(&self.path)
    }

    /// Makes the file valid for a new database, and returns its number: the one that it had, or 0
    /// when that cannot be read.
    pub(super) fn restart(&self, codec: &Codec) -> io::Result<u64> {
        let last = self.read(codec).ok().flatten().unwrap_or(0);
        self.write(last, codec)?;
        Ok(last)
    }
}

fn encode(sequence: u64, codec: &Codec) -> String {
    let text = format!("{VERSION} {sequence}");
    let checksum = codec.checksum(b"sequence", text.as_bytes());
    format!("{text} {checksum:016x}\n")
}

/// Decodes what [`encode`] returns, and nothing else.
fn decode(content: &[u8], codec: &Codec) -> Option<u64> {
    let text = str::from_utf8(content).ok()?;
    let sequence = text.split(' ').nth(1)?.parse().ok()?;
    (encode(sequence, codec) == text).then_some(sequence)
}
