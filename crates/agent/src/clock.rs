//! The only reader of clocks in this crate.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
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
/// the same interval wake an idle process together, and once: a long sleep of the runtime wakes it
/// up to three times, since its timer is refined in steps of 4 s and 64 ms.
pub(crate) async fn tick(interval: Duration) {
    static START: LazyLock<Instant> = LazyLock::new(now);
    let start = *START;
    let now = now();
    let since = now.saturating_duration_since(start);
    let rest = since.as_nanos() % interval.as_nanos().max(1);
    let rest = Duration::from_nanos(u64::try_from(rest).unwrap_or_default());
    let left = interval.saturating_sub(rest);
    if cfg!(test) || kernel_sleep(left).await.is_err() {
        sleep_until(now + left).await;
    }
}

/// Waits for a timer of the kernel.
async fn kernel_sleep(duration: Duration) -> io::Result<()> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(duration).map_err(io::Error::other)?,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    // The runtime's type for pipes waits for any descriptor that becomes readable.
    Receiver::from_owned_fd_unchecked(timer)?.readable().await
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
