//! What an error of redb means for the file.

use std::io;

/// What an error of a database means.
#[derive(Debug)]
pub enum DatabaseFault {
    /// Another process has the file open.
    InUse,
    /// The file system failed: another file would fail too.
    Io(io::Error),
    /// The disk failed in an earlier call: the database has to be opened again.
    Latched(redb::Error),
    /// The content of the file is damaged, or is no database.
    Damaged(String),
}

/// Says what `error`, from opening or reading a database, means.
pub fn classify(error: impl Into<redb::Error>) -> DatabaseFault {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => DatabaseFault::InUse,
        // redb reports a file of another format as an I/O error of these kinds.
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            DatabaseFault::Io(error)
        }
        error @ redb::Error::PreviousIo => DatabaseFault::Latched(error),
        error => DatabaseFault::Damaged(error.to_string()),
    }
}
