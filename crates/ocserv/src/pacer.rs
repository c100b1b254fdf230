//! Spaces requests out in time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// Gives turns that are at least an interval apart, in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Mutex::new(None),
        }
    }

    /// Waits for a turn. A caller that stops waiting leaves its turn unused.
    pub(crate) async fn turn(&self) {
        let turn = self.reserve(clock::now());
        sleep_until(turn).await;
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.interval);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_an_interval_apart_and_unused_time_is_not_saved() {
        let pacer = Pacer::new(Duration::from_millis(20));
        let start = clock::now();
        for n in 0..1_000 {
            assert_eq!(pacer.reserve(start), start + n * Duration::from_millis(20));
        }
        let later = start + Duration::from_mins(1);
        assert_eq!(pacer.reserve(later), later);
        assert_eq!(pacer.reserve(later), later + Duration::from_millis(20));
    }
}
