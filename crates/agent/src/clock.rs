//! The only reader of clocks in this crate.

use std::time::SystemTime;

use tokio::time::Instant;

/// The time of day: for what people and portals read. It may jump, also backwards.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the agent's clock")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The time that only goes forward: for deadlines and durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the agent's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock of the decision pipeline.
pub(crate) fn of_decisions() -> authz::Clock {
    authz::Clock::new(|| resilience::Now {
        mono: now().into_std(),
        wall: wall(),
    })
}
