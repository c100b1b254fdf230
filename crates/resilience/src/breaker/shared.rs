//! One breaker for many callers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Admission, Breaker, BreakerSettings, BreakerState, BreakerStats, Outcome, Permit, Transition};

/// A breaker that many tasks ask; its clones are the same breaker.
#[derive(Debug, Clone)]
pub struct SharedBreaker(Arc<Mutex<Breaker>>);

/// What a shared breaker lets a caller do now.
#[derive(Debug)]
pub enum Entry {
    /// Make the call.
    Admitted(Pass),
    /// Make no call.
    Refused {
        /// After this time it is worth asking again.
        retry_after: Duration,
    },
}

/// The right to make one call through a shared breaker. Dropped without a word it counts as cancelled, not as success.
#[derive(Debug)]
#[must_use = "a pass that is dropped counts as a cancelled call"]
pub struct Pass {
    breaker: SharedBreaker,
    permit: Option<Permit>,
}

impl SharedBreaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self(Arc::new(Mutex::new(Breaker::new(settings))))
    }

    /// See [`Breaker::admit`].
    pub fn admit(&self, now: Instant) -> (Entry, Option<Transition>) {
        let (admission, transition) = self.lock().admit(now);
        let entry = match admission {
            Admission::Call(permit) | Admission::Probe(permit) => Entry::Admitted(Pass {
                breaker: self.clone(),
                permit: Some(permit),
            }),
            Admission::Refused { retry_after } => Entry::Refused { retry_after },
        };
        (entry, transition)
    }

    /// See [`Breaker::reset`].
    pub fn reset(&self) -> Option<Transition> {
        self.lock().reset()
    }

    /// See [`Breaker::configure`].
    pub fn configure(&self, settings: BreakerSettings) {
        self.lock().configure(settings);
    }

    /// See [`Breaker::state`].
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.lock().state()
    }

    /// See [`Breaker::stats`].
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        self.lock().stats()
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        // The breaker's methods leave no half-made change behind, so a panic elsewhere in the thread harms nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Reports how the call ended.
    #[must_use]
    pub fn settle(mut self, outcome: Outcome, now: Instant) -> Option<Transition> {
        let permit = self.permit.take()?;
        self.breaker.lock().settle(permit, outcome, now)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.lock().cancel(permit);
        }
    }
}
