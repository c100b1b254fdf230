//! The decision pipeline: fresh cache → breaker → policy source → fail mode, and the decisions'
//! copy on disk.
//!
//! Leans on `model` and `resilience`. Runs its queries to the source on the tracker it is given,
//! reads the clock it is given, and touches the disk only in [`DecisionStore`], whose calls are
//! explicit and block. Never knows wires, configuration files, metrics or logs: events are returned
//! to the caller or passed to its observer.

mod authorizer;
mod clock;
mod in_flight;
mod observer;
mod settings;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use authorizer::{Authorizer, AuthorizerStats, Dependencies};
pub use clock::Clock;
pub use observer::{DecisionRecord, Observation, Observer, QueryEnd};
pub use settings::{RateLimits, Settings};
pub use source::{CheckFuture, PolicyAnswer, PolicySource, SourceError};
pub use store::{DecisionStore, OpenedStore, SetAside, SetAsideReason, StoreError};
