//! The only reader of clocks in this crate.

use std::time::SystemTime;

use tokio::time::Instant;

/// Reads the runtime's monotonic clock, which tests can pause.
#[expect(clippy::disallowed_methods, reason = "the crate's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the time of day, for timestamps.
#[expect(clippy::disallowed_methods, reason = "the crate's clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
