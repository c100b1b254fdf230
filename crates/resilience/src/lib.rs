//! What keeps logins decided right while the policy source is slow, wrong or gone: a circuit breaker, a cache of
//! decisions, the fail modes, rate limits and backoff.
//!
//! Leans on `model`. Everything is a pure core: plain data in, plain data out, and the time is a parameter. Never
//! knows sockets, disks, clocks, tasks or logs; the caller logs and counts what comes back.

mod backoff;
mod breaker;
mod cache;
mod connection_limiter;
mod fail_mode;
mod log_limiter;
mod lru;
mod rate;
mod time;

pub use backoff::Backoff;
pub use breaker::{
    Admission, Breaker, BreakerSettings, BreakerState, BreakerStats, Entry, Outcome, Pass, Permit,
    SharedBreaker, Transition, Why,
};
pub use cache::{
    Cache, CacheKey, CacheSettings, CacheStats, Changes, Hit, Lookup, Mark, Place, Question, Record, Records,
    Remembered, Revocation, StaleMatch, Stored, Ttl,
};
pub use connection_limiter::{ConnectionLimiter, ConnectionSlot};
pub use fail_mode::{FailMode, UnknownFailMode, UnknownStaleMatch};
pub use log_limiter::LogLimiter;
pub use rate::{Rate, RateLimiter};
pub use time::Now;
