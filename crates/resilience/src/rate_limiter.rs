//! Rate limits per user or address.

use std::borrow::Borrow;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

/// A token bucket: `burst` at once, then one per `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests admitted at once.
    pub burst: NonZeroU32,
    /// Time until one more is admitted; more than a day counts as a day.
    pub interval: Duration,
}

impl Rate {
    /// Takes one token of a bucket that is full at `full_at`, or now on `None`. Returns when the
    /// bucket will be full again.
    ///
    /// # Errors
    /// How long to wait for a token, when there is none.
    pub(crate) fn take(&self, full_at: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let full_at = full_at.map_or(now, |at| at.max(now));
        let room = self.interval.saturating_mul(self.burst.get() - 1);
        let missing = full_at.saturating_duration_since(now);
        if missing > room {
            return Err(missing - room);
        }
        Ok(full_at + self.interval)
    }
}

/// One bucket per key, for a bounded number of keys. A key that is evicted for another finds a full
/// bucket at its next request; keys that were used more than once outlive those that were not.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    /// When each key's bucket is full again: the "theoretical arrival time" of the generic cell
    /// rate algorithm, which is a bucket's whole state.
    full_at: Cache<K, Instant>,
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// Creates a limiter with full buckets.
    #[must_use]
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        let interval = rate.interval.min(Duration::from_secs(86_400));
        Self {
            rate: Rate { interval, ..rate },
            full_at: Cache::new(max_keys.max(1)),
        }
    }

    /// Takes one token of `key`.
    ///
    /// # Errors
    /// How long to wait for a token, when there is none; none is taken then.
    pub fn take<Q>(&mut self, key: &Q, now: Instant) -> Result<(), Duration>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let full_at = self.rate.take(self.full_at.get(key).copied(), now)?;
        self.full_at.insert(key.to_owned(), full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(burst: u32, interval_ms: u64, max_keys: usize) -> RateLimiter<String> {
        let rate = Rate {
            burst: NonZeroU32::new(burst).unwrap(),
            interval: Duration::from_millis(interval_ms),
        };
        RateLimiter::new(rate, max_keys)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the base of the test's times; it is read once"
    )]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let (mut limiter, start) = (limiter(3, 1_000, 10), base());
        let at = |ms| start + Duration::from_millis(ms);
        let taken: Vec<_> = [
            0, 0, 0, 0, 999, 1_000, 1_001, 2_000, 60_000, 60_000, 60_000, 60_000,
        ]
        .map(|ms| limiter.take("alice", at(ms)).map_err(|wait| wait.as_millis()))
        .into();
        let (ok, wait) = (Ok(()), |ms| Err(ms));
        assert_eq!(
            taken,
            [
                ok,
                ok,
                ok,
                wait(1_000),
                wait(1),
                ok,
                wait(999),
                ok,
                ok,
                ok,
                ok,
                wait(1_000)
            ]
        );
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_their_number_is_bounded() {
        let (mut limiter, now) = (limiter(1, 1_000, 2), base());
        assert_eq!(limiter.take("a", now), Ok(()));
        assert_eq!(limiter.take("b", now), Ok(()));
        assert!(limiter.take("b", now).is_err());
        assert_eq!(
            limiter.take("c", now),
            Ok(()),
            "a third key evicts the least recently used"
        );
        assert!(
            limiter.take("b", now).is_err(),
            "b was used after a and is still tracked"
        );
        assert_eq!(limiter.take("a", now), Ok(()));
        assert_eq!(limiter.full_at.len(), 2);
    }

    #[test]
    fn a_clock_that_goes_backwards_adds_no_token() {
        let (mut limiter, start) = (limiter(1, 1_000, 2), base() + Duration::from_secs(60));
        assert_eq!(limiter.take("a", start), Ok(()));
        assert!(limiter.take("a", start - Duration::from_secs(30)).is_err());
    }
}
