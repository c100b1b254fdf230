//! The clock that the pipeline reads.

use std::fmt;
use std::sync::Arc;

use resilience::Now;

/// Reads both clocks. The agent gives the real one; tests give one that they move.
///
/// Its monotonic half must be the clock that tokio's timers run on.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// A clock that is read by `read`.
    #[must_use]
    pub fn new(read: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
