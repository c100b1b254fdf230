//! The only reader of clocks in this crate.

use rustls::pki_types::UnixTime;
use tokio::time::Instant;

/// Reads the runtime's monotonic clock, which tests can pause.
#[expect(clippy::disallowed_methods, reason = "the crate's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the time of day by which certificates are valid or expired.
#[expect(clippy::disallowed_methods, reason = "the crate's clock")]
pub(crate) fn wall() -> UnixTime {
    UnixTime::now()
}
