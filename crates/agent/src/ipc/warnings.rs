//! Limits of warnings that peers can cause.

use std::num::NonZeroU32;
use std::time::Duration;

use resilience::LogLimiter;

/// Time between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// One limit for each kind of warning.
pub(super) struct Warnings {
    pub(super) peer: LogLimiter,
    pub(super) overload: LogLimiter,
    pub(super) request: LogLimiter,
    pub(super) accept: LogLimiter,
    pub(super) late: LogLimiter,
    pub(super) durable: LogLimiter,
}

impl Default for Warnings {
    fn default() -> Self {
        let limiter = || LogLimiter::new(NonZeroU32::MIN, WARNING_INTERVAL);
        Self {
            peer: limiter(),
            overload: limiter(),
            request: limiter(),
            accept: limiter(),
            late: limiter(),
            durable: limiter(),
        }
    }
}
