//! Retry delays.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th delay is random between zero and a ceiling that
/// grows from `initial` by `multiplier` up to `max`. The jitter keeps a fleet of agents from
/// reconnecting all at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first ceiling.
    pub initial: Duration,
    /// The highest ceiling.
    pub max: Duration,
    /// Growth of the ceiling per failure; below 1 counts as 1.
    pub multiplier: f64,
}

impl Backoff {
    /// Returns the longest delay after `failures` failed attempts in a row (1 is the first).
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        // Infinite or not a number: past any ceiling.
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(self.max)
            .min(self.max)
    }

    /// Returns the delay after `failures` failed attempts in a row. `random` is uniform in 0 to 1.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let share = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            1.0
        };
        self.ceiling(failures).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 2.0,
    };

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum_and_never_overflows() {
        let ceilings: Vec<u64> = [1, 2, 3, 6, 7, 8, 1_000, u32::MAX]
            .map(|n| BACKOFF.ceiling(n).as_secs())
            .into();
        assert_eq!(ceilings, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn the_delay_spans_zero_to_the_ceiling() {
        for (random, expected) in [
            (0.0, 0),
            (0.25, 1_000),
            (1.0, 4_000),
            (7.0, 4_000),
            (f64::NAN, 4_000),
        ] {
            assert_eq!(
                BACKOFF.delay(3, random),
                Duration::from_millis(expected),
                "{random}"
            );
        }
    }
}
