//! Limits log lines that a peer can cause.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::rate_limiter::Rate;

/// Limits one kind of log line and counts the suppressed lines, so that a peer cannot flood the
/// log.
#[derive(Debug)]
pub struct LogLimiter {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the whole burst is available again; `None` before the first line.
    full_at: Option<Instant>,
    suppressed: u64,
}

impl LogLimiter {
    /// Creates a limiter that admits `burst` lines at once, then one per `interval`.
    #[must_use]
    pub const fn new(burst: NonZeroU32, interval: Duration) -> Self {
        Self {
            rate: Rate { burst, interval },
            state: Mutex::new(State {
                full_at: None,
                suppressed: 0,
            }),
        }
    }

    /// Returns the number of lines suppressed since the last admitted one if a line may be written
    /// now, `None` if it must be suppressed.
    #[must_use = "the line must be suppressed on `None`"]
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(full_at) = self.rate.take(state.full_at, now) else {
            state.suppressed += 1;
            return None;
        };
        state.full_at = Some(full_at);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "the base of the test's times; it is read once"
    )]
    fn base() -> Instant {
        Instant::now()
    }

    fn limiter(burst: u32, interval: Duration) -> LogLimiter {
        LogLimiter::new(NonZeroU32::new(burst).unwrap(), interval)
    }

    #[test]
    fn one_line_per_interval_is_admitted_with_the_number_of_suppressed_lines() {
        let (limiter, start) = (limiter(1, Duration::from_secs(10)), base());
        let after = |seconds| start + Duration::from_secs(seconds);
        let admitted: Vec<_> = [0, 1, 9, 10, 11, 25].map(|s| limiter.admit(after(s))).into();
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_line_per_interval() {
        const BURST: usize = 20;
        let interval = Duration::from_secs(5);
        let (limiter, start) = (limiter(20, interval), base());
        let admitted = |from: Duration, lines: usize| -> Vec<u64> {
            (0..lines).filter_map(|_| limiter.admit(start + from)).collect()
        };
        assert_eq!(admitted(Duration::ZERO, 1_000), [0; BURST]);
        assert_eq!(admitted(interval, 10), [980]);
        assert_eq!(admitted(interval * 3, 10), [9, 0]);
        assert_eq!(admitted(interval * 1_000, 1_000).len(), BURST);
    }
}
