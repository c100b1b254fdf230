//! One breaker for many callers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::breaker::{
    Admission, Breaker, BreakerSettings, BreakerState, BreakerStats, CallOutcome, Permit, Transition,
};

/// A breaker shared by many tasks; clones are the same breaker.
#[derive(Debug, Clone)]
pub struct SharedBreaker(Arc<Mutex<Breaker>>);

/// Whether a call through a shared breaker may be made now.
#[derive(Debug)]
pub enum SharedAdmission {
    /// Make the call.
    Admitted(SharedPermit),
    /// Make no call.
    Refused {
        /// Time after which a call may be admitted.
        retry_after: Duration,
    },
}

/// The right to make one call through a shared breaker; dropping it cancels the call.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct SharedPermit {
    breaker: SharedBreaker,
    permit: Option<Permit>,
}

impl SharedBreaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self(Arc::new(Mutex::new(Breaker::new(settings))))
    }

    /// See [`Breaker::admit`].
    pub fn admit(&self, now: Instant) -> (SharedAdmission, Option<Transition>) {
        let (admission, transition) = self.lock().admit(now);
        let admission = match admission {
            Admission::Call(permit) | Admission::Probe(permit) => SharedAdmission::Admitted(SharedPermit {
                breaker: self.clone(),
                permit: Some(permit),
            }),
            Admission::Refused { retry_after } => SharedAdmission::Refused { retry_after },
        };
        (admission, transition)
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
        // No method of the breaker can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedPermit {
    /// Reports how the call ended.
    #[must_use]
    pub fn settle(mut self, outcome: CallOutcome, now: Instant) -> Option<Transition> {
        let permit = self.permit.take()?;
        self.breaker.lock().settle(permit, outcome, now)
    }
}

impl Drop for SharedPermit {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.lock().cancel(permit);
        }
    }
}
