//! The decision pipeline: fresh cache → breaker → policy source → fail mode, and the decisions'
//! copy on disk.
//!
//! Depends on `model` and `resilience`. Runs queries on the caller's tracker, reads the caller's
//! clock, and touches the disk only in [`DecisionStore`], whose calls block. Knows nothing of wire
//! formats, configuration, metrics or logs: it returns events or passes them to its observer.

mod authorizer;
mod clock;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod in_flight;
mod observer;
mod settings;
mod source;
mod store;
mod switches;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read the paused clock")]
mod tests;

pub use authorizer::{Authorizer, AuthorizerStats, Dependencies};
pub use clock::Clock;
pub use observer::{DecisionRecord, Observation, Observer, QueryEnd};
pub use settings::{RateLimits, Settings};
pub use source::{CheckFuture, PolicyAnswer, PolicySource, SourceError};
pub use store::{DecisionStore, OpenedStore, SetAside, SetAsideReason, StoreError};
pub use switches::ActiveSwitches;
