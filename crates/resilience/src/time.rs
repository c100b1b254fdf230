//! The time, as the cores take it.

use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks.
///
/// Ages inside one process come from the monotonic clock, which nobody sets. Ages across a restart come from the wall
/// clock, which is all that outlives the process. Where both are known, the larger age counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Instant,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Now {
    /// How long ago `then` was: the larger of what the two clocks say, since each can lose time (the monotonic one in
    /// suspend, the wall clock when it is set). `None` when the wall clock stands before `then`: it was set back, and
    /// what it says cannot be trusted.
    #[must_use]
    pub fn since(&self, then: &Self) -> Option<Duration> {
        let mono = self.mono.saturating_duration_since(then.mono);
        self.wall
            .duration_since(then.wall)
            .ok()
            .map(|wall| wall.max(mono))
    }
    /// How long ago `then` was, as well as it can be known: without the wall clock where that was set back.
    pub(crate) fn age_of(&self, then: &Self) -> Duration {
        self.since(then)
            .unwrap_or_else(|| self.mono.saturating_duration_since(then.mono))
    }

    /// The moment that bears the time `wall` in the records of an earlier process. Where that is ahead of the clock, it
    /// is as old as this process's knowledge of it: not at all.
    pub(crate) fn earlier(&self, wall: SystemTime) -> Self {
        let age = self.wall.duration_since(wall).unwrap_or_default();
        let mono = self.mono.checked_sub(age).unwrap_or(self.mono);
        Self { mono, wall }
    }
}
