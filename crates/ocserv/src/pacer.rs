//! Spaces requests out in time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::clock;

/// Gives turns that are at least an interval apart, in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    /// When the next turn may be. Its lock is the queue, which is fair; a caller that stops waiting
    /// leaves the queue and takes no turn.
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: Mutex::const_new(None),
        }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) {
        let mut next = self.next.lock().await;
        let now = clock::now();
        let turn = next.map_or(now, |next| next.max(now));
        sleep_until(turn).await;
        *next = Some(turn + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn turns_are_an_interval_apart_and_unused_time_is_not_saved() {
        let pacer = Pacer::new(INTERVAL);
        let start = clock::now();
        for n in 0..1_000 {
            pacer.turn().await;
            assert_eq!(clock::now(), start + n * INTERVAL);
        }
        advance(Duration::from_mins(1)).await;
        let later = clock::now();
        pacer.turn().await;
        assert_eq!(clock::now(), later);
        pacer.turn().await;
        assert_eq!(clock::now(), later + INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_stops_waiting_delays_no_other() {
        let pacer = Pacer::new(INTERVAL);
        pacer.turn().await;
        let start = clock::now();
        for _ in 0..1_000 {
            assert!(timeout(Duration::ZERO, pacer.turn()).await.is_err());
        }
        pacer.turn().await;
        assert!(clock::now() <= start + INTERVAL, "{:?}", clock::now() - start);
    }
}
