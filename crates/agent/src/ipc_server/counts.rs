//! What the server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What went wrong since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) refused_peers: AtomicU64,
    pub(super) overloaded: AtomicU64,
    pub(super) bad_requests: AtomicU64,
    pub(super) accept_errors: AtomicU64,
}

impl Counts {
    /// Connections of peers that may not ask.
    #[must_use]
    pub fn refused_peers(&self) -> u64 {
        self.refused_peers.load(Ordering::Relaxed)
    }

    /// Connections that were turned away because there were too many.
    #[must_use]
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Requests that were late, torn, or made no sense.
    #[must_use]
    pub fn bad_requests(&self) -> u64 {
        self.bad_requests.load(Ordering::Relaxed)
    }

    /// Accepts that failed.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}
