//! Entries for the fuzz targets; no part of the interface.

pub use crate::store::fuzzing::stored_record;
