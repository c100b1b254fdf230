//! Who may still be sending: when there are too many, the one that has taken the longest has to go.
//!
//! A helper sends its request within milliseconds. So a connection that is still silent while the place is full is the
//! least likely to be a login, and the oldest silent one the least of all: idle connections, however many, cannot keep
//! a login out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connections that have not sent their request yet.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// One of them; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Visitor {
    gate: Arc<Inner>,
    number: u64,
    /// Cancelled when it has to go.
    pub(super) expelled: CancellationToken,
}

impl Gate {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Inner {
            max,
            waiting: Mutex::default(),
        }))
    }

    /// Lets one more in. Says whether another had to go for it.
    pub(super) fn enter(&self) -> (Visitor, bool) {
        let expelled = CancellationToken::new();
        let mut waiting = self.0.waiting();
        let number = waiting.next;
        waiting.next += 1;
        let oldest = if waiting.by_age.len() >= self.0.max {
            waiting.by_age.pop_first()
        } else {
            None
        };
        waiting.by_age.insert(number, expelled.clone());
        drop(waiting);
        let full = oldest.is_some();
        if let Some((_, token)) = oldest {
            token.cancel();
        }
        (
            Visitor {
                gate: Arc::clone(&self.0),
                number,
                expelled,
            },
            full,
        )
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.gate.waiting().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_silent_connection_makes_room_and_one_that_has_spoken_is_left_alone() {
        let gate = Gate::new(2);
        let (spoken, _) = gate.enter();
        let (oldest, _) = gate.enter();
        let token = spoken.expelled.clone();
        drop(spoken);
        let (_newer, full) = gate.enter();
        assert!(!full);
        let (newest, full) = gate.enter();
        assert!(full);
        assert!(oldest.expelled.is_cancelled());
        assert!(!newest.expelled.is_cancelled());
        assert!(!token.is_cancelled());
    }
}
