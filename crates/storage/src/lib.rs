//! Files that belong to the agent alone: opening them, setting them aside, writing them durably;
//! and what an error of a database in such a file means.
//!
//! Depends on no other crate of the workspace. Knows nothing of what the files contain.

mod checksum;
mod database;
mod directory_lock;
mod file;

pub use checksum::{CHECKSUM_START, checksum};
pub use database::{DatabaseFault, classify};
pub use directory_lock::{DirectoryLock, LockError};
pub use file::{FileError, create, open_existing, options, set_aside, sync_directory, with_suffix};
