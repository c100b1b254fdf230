//! The decision pipeline: fresh cache → breaker → policy source → fail mode, and the decisions' copy on disk.
//!
//! Leans on `model` and `resilience`. Runs its questions to the source on the tracker it is given, reads the clock it
//! is given, and touches the disk only in [`DecisionStore`], whose calls are explicit and block. Never knows wires,
//! configuration files, metrics or logs: what happens comes back to the caller or goes to its observer.

mod authorizer;
mod clock;
mod flight;
mod observe;
mod settings;
mod source;
mod store;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read the paused clock")]
mod tests;

pub use authorizer::{Authorizer, Parts, Stats};
pub use clock::Clock;
pub use observe::{CallEnd, DecisionRecord, Observation, Observer};
pub use settings::{RateLimits, Settings};
pub use source::{Answer, Check, PolicySource, SourceError};
pub use store::{DecisionStore, Opened, SetAside, StoreError, Why};
