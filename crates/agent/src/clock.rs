//! The only reader of clocks in this crate.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Reads the time of day, for timestamps; it may jump, also backwards.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the agent's clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Reads the monotonic time, for deadlines and durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the agent's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the time since the system's start, in which the helper's deadline is measured; `None`
/// where the system has no such clock.
#[must_use]
pub(crate) fn boottime() -> Option<Duration> {
    ipc::client::boottime()
}

/// Creates the clock of the decision pipeline.
pub(crate) fn authz_clock() -> authz::Clock {
    authz::Clock::new(|| resilience::Now {
        mono: now().into_std(),
        wall: wall(),
    })
}
