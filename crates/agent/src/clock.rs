//! The only reader of clocks in this crate.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

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

/// Waits until the next multiple of `interval` since the first call. So parts that do something at
/// the same interval wake an idle process together.
pub(crate) async fn tick(interval: Duration) {
    static START: LazyLock<Instant> = LazyLock::new(now);
    let start = *START;
    let now = now();
    let since = now.saturating_duration_since(start);
    let rest = since.as_nanos() % interval.as_nanos().max(1);
    let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or_default());
    sleep_until(now + interval.saturating_sub(rest)).await;
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
