//! How long to wait before the next attempt to connect: exponential, with full jitter.

use std::time::Duration;

/// The shape of the waiting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReconnectSettings {
    /// The longest wait after the first failure, and the shortest time between two attempts that a waiting login may
    /// bring about.
    pub initial_delay: Duration,
    /// The longest wait ever.
    pub max_delay: Duration,
    /// How much the longest wait grows with every failure; below 1 counts as 1.
    pub multiplier: f64,
}

/// Counts failures and says how long to wait. Full jitter: each wait is evenly drawn from zero to a ceiling that
/// grows, so that the agents of a portal that comes back do not all arrive at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: ReconnectSettings,
    failures: u32,
}

impl Backoff {
    /// Begins without failures.
    #[must_use]
    pub fn new(settings: ReconnectSettings) -> Self {
        Self {
            settings,
            failures: 0,
        }
    }

    /// The wait after one more failure. `random` is from 0 to 1 and is the only source of chance here.
    pub fn after_failure(&mut self, random: f64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Forgets the failures: it works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest that the next wait can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX);
        let factor = self.settings.multiplier.max(1.0).powi(exponent);
        let seconds = self.settings.initial_delay.as_secs_f64() * factor;
        // Also catches infinity, which no Duration can hold.
        if seconds < self.settings.max_delay.as_secs_f64() {
            Duration::from_secs_f64(seconds)
        } else {
            self.settings.max_delay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: ReconnectSettings = ReconnectSettings {
        initial_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
        multiplier: 2.0,
    };

    fn delays(settings: ReconnectSettings, random: f64, count: usize) -> Vec<u64> {
        let mut backoff = Backoff::new(settings);
        (0..count)
            .map(|_| u64::try_from(backoff.after_failure(random).as_millis()).unwrap())
            .collect()
    }

    #[test]
    fn the_longest_waits_double_up_to_the_maximum() {
        assert_eq!(
            delays(SECONDS, 1.0, 9),
            [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
        );
    }

    #[test]
    fn every_wait_is_drawn_from_zero_up() {
        assert_eq!(delays(SECONDS, 0.0, 4), [0, 0, 0, 0]);
        assert_eq!(
            delays(SECONDS, 0.5, 8),
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]
        );
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::new(SECONDS);
        for _ in 0..5 {
            backoff.after_failure(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0), Duration::from_secs(1));
    }

    #[test]
    fn no_setting_and_no_number_of_failures_overflows() {
        let steep = ReconnectSettings {
            multiplier: 1e300,
            ..SECONDS
        };
        assert_eq!(delays(steep, 1.0, 4), [1000, 60000, 60000, 60000]);
        let shrinking = ReconnectSettings {
            multiplier: 0.1,
            ..SECONDS
        };
        assert_eq!(delays(shrinking, 1.0, 3), [1000, 1000, 1000]);
        let mut old = Backoff {
            settings: SECONDS,
            failures: u32::MAX,
        };
        assert_eq!(old.after_failure(1.0), Duration::from_secs(60));
    }
}
