//! Times from both clocks.

use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks.
///
/// Ages inside one process come from the monotonic clock, which is never set. Ages across a restart
/// come from the wall clock, the only one that outlives the process. Where both are known, the
/// larger age counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Now {
    /// Returns the time since `then`: the larger of both clocks' readings, since each can lose time
    /// (the monotonic one in suspend, the wall clock when it is set). `None` when the wall clock is
    /// before `then`: it was set back and cannot be trusted.
    #[must_use]
    pub fn since(&self, then: &Self) -> Option<Duration> {
        let mono = self.mono.saturating_duration_since(then.mono);
        self.wall
            .duration_since(then.wall)
            .ok()
            .map(|wall| wall.max(mono))
    }

    /// Returns the time since `then`, by the monotonic clock alone where the wall clock was set
    /// back.
    pub(crate) fn age_of(&self, then: &Self) -> Duration {
        self.since(then)
            .unwrap_or_else(|| self.mono.saturating_duration_since(then.mono))
    }

    /// Returns the moment that an earlier process recorded as `wall`. A future timestamp gets age
    /// zero.
    pub(crate) fn at_wall(&self, wall: SystemTime) -> Self {
        let age = self.wall.duration_since(wall).unwrap_or_default();
        let mono = self.mono.checked_sub(age).unwrap_or(self.mono);
        Self { mono, wall }
    }
}
