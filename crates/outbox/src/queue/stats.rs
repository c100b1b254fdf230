//! Counts of events.

use std::time::SystemTime;

/// Counts of events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboxStats {
    /// Pending now, those in flight and those on disk included.
    pub pending: usize,
    /// Those that are to be written, and rejected events that are not in the dead letters yet.
    pub unsaved: usize,
    /// The bytes of the pending events.
    pub bytes: u64,
    /// When the oldest of them was queued.
    pub oldest: Option<SystemTime>,
    /// Acknowledged by the portal since the start.
    pub delivered: u64,
    /// Rejected by the portal since the start.
    pub rejected: u64,
    /// Lost since the start because of a bound or damage.
    pub dropped: Dropped,
}

/// Counts of lost events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Connects.
    pub connects: u64,
    /// Disconnects.
    pub disconnects: u64,
    /// Updates.
    pub updates: u64,
    /// Events that could not be read again from the disk.
    pub damaged: u64,
}
