//! The generation file: how often the database was opened, in a file beside it.
//!
//! The database has the same number. An older copy of the database has a lower one.
//!
//! The file is one line: `1 GENERATION CHECKSUM`, 1 being the version of the format.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use storage::{CHECKSUM_START, checksum, sync_directory, with_suffix};

use super::error::OpenError;

/// Version of the format.
const VERSION: &str = "1";
/// Longest content, in bytes: far above that of any number.
const MAX_LEN: u64 = 64;

/// The generation file of one database.
#[derive(Debug)]
pub(super) struct GenerationFile {
    path: PathBuf,
}

impl GenerationFile {
    /// The file of the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            path: with_suffix(path, ".generation"),
        }
    }

    /// Reads the number; 0 when there is none, and when the file is damaged: it only tells an older
    /// copy.
    pub(super) fn read(&self) -> Result<u64, OpenError> {
        let file = match storage::open_existing(&self.path) {
            Ok(Some(file)) => file,
            Ok(None) | Err(storage::FileError::Exposed) => return Ok(0),
            Err(error) => return Err(OpenError::file(error)),
        };
        let mut content = Vec::new();
        file.take(MAX_LEN)
            .read_to_end(&mut content)
            .map_err(OpenError::io)?;
        Ok(decode(&content).unwrap_or(0))
    }

    /// Writes the number durably.
    pub(super) fn write(&self, generation: u64) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".tmp");
        let mut file = storage::options().create(true).truncate(true).open(&temporary)?;
        file.write_all(encode(generation).as_bytes())?;
        file.sync_all()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the file is synced before, the directory after"
        )]
        fs::rename(&temporary, &self.path)?;
        sync_directory(&self.path)
    }
}

fn encode(generation: u64) -> String {
    let text = format!("{VERSION} {generation}");
    let sum = checksum(CHECKSUM_START, text.as_bytes());
    format!("{text} {sum:016x}\n")
}

/// Decodes what [`encode`] returns, and nothing else.
fn decode(content: &[u8]) -> Option<u64> {
    let text = str::from_utf8(content).ok()?;
    let generation = text.split(' ').nth(1)?.parse().ok()?;
    (encode(generation) == text).then_some(generation)
}
