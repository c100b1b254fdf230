//! Warnings that an ill-willed peer could cause at will: one in ten seconds, with the number of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(10);

/// Says whether a warning may be written.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Quiet {
    /// `Some` when one may be written now, with how many were left out before it.
    pub(super) fn may_warn(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
        {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_in_ten_seconds_with_the_number_of_those_left_out() {
        let start = crate::clock::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let quiet = Quiet::default();
        let seen: Vec<_> = [0, 1, 9, 10, 11, 25].map(|s| quiet.may_warn(after(s))).into();
        assert_eq!(seen, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
