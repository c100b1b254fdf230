//! Resilience against a slow or unavailable policy source: a circuit breaker, a cache of decisions,
//! fail modes, rate limits and backoff; and the limiters of connections and log lines that the
//! listeners share.
//!
//! Depends on `model`. Everything is a pure core: plain data in, plain data out, the time is a
//! parameter. Knows nothing of sockets, disks, clocks, tasks or logs; the caller logs and counts
//! the results.

mod backoff;
mod breaker;
mod cache;
mod connection_limiter;
mod fail_mode;
mod log_limiter;
mod rate_limiter;
mod shared_breaker;
mod time;

pub use backoff::Backoff;
pub use breaker::{
    Admission, Breaker, BreakerSettings, BreakerState, BreakerStats, CallOutcome, Permit, Transition,
    TransitionCause,
};
pub use cache::{
    AccessScope, Cache, CacheKey, CacheSettings, CacheStats, ChangeCollector, Changes, Epoch, Hit, Lookup,
    Query, Record, Records, Revocation, StaleAnswer, StaleMatch, StoreResult, Ttl,
};
pub use connection_limiter::{ConnectionLimiter, ConnectionSlot};
pub use fail_mode::{FailMode, UnknownFailMode, UnknownStaleMatch};
pub use log_limiter::LogLimiter;
pub use rate_limiter::{Rate, RateLimiter};
pub use shared_breaker::{SharedAdmission, SharedBreaker, SharedPermit};
pub use time::Now;
