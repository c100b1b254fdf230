//! The times of sessions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest time between the end of a session and its report that is usual: both are in seconds, and
/// the disconnect-script has to run.
const USUAL_DELAY: Duration = Duration::from_secs(5);

/// Returns when a session ended: `reported_at`, unless its connect time and duration say that the
/// report waited, as it does for an agent that is stopped.
pub(crate) fn end_time(connected_at: u64, duration: Option<Duration>, reported_at: SystemTime) -> SystemTime {
    let computed = || {
        let connected_at = UNIX_EPOCH.checked_add(Duration::from_secs(connected_at))?;
        let end = connected_at.checked_add(duration?)?;
        (end.checked_add(USUAL_DELAY)? < reported_at).then_some(end)
    };
    computed().unwrap_or(reported_at)
}

/// Returns the seconds since 1970; 0 for an earlier time.
pub(crate) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the time of a second since 1970; a second that no clock shows is 1970.
pub(crate) fn at_second(second: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(second))
        .unwrap_or(UNIX_EPOCH)
}
