//! Warnings about refused peers: enough to see what is wrong, and not as many as a stranger wants. Else whoever can reach
//! the port could push the lines that matter out of the log.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many warnings at once,
const BURST: u32 = 20;
/// then one more after each such time.
const EVERY: Duration = Duration::from_secs(5);

/// Writes the warnings.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When there will be a whole burst again; `None` before the first warning.
    full_at: Option<Instant>,
    left_out: u64,
}

impl Refusals {
    /// Says that `address` was refused, and why, unless there was too much of that lately.
    pub(super) fn warn(&self, address: SocketAddr, why: impl Display) {
        match self.may_warn(Instant::now()) {
            Some(0) => tracing::warn!("refused {address}: {why}"),
            Some(left_out) => tracing::warn!(left_out, "refused {address}: {why}"),
            None => {}
        }
    }

    /// `Some` when one may be written now, with how many were left out before it.
    fn may_warn(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = state.full_at.map_or(now, |at| at.max(now));
        if full_at.saturating_duration_since(now) > EVERY * (BURST - 1) {
            state.left_out += 1;
            return None;
        }
        state.full_at = Some(full_at + EVERY);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_a_burst_of_warnings_and_then_one_at_a_time_with_a_count() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let told = |from: Duration, peers: usize| -> Vec<u64> {
            (0..peers)
                .filter_map(|_| refusals.may_warn(start + from))
                .collect()
        };
        assert_eq!(told(Duration::ZERO, 1_000), [0; BURST as usize]);
        assert_eq!(told(EVERY, 10), [980]);
        assert_eq!(told(EVERY * 3, 10), [9, 0]);
        assert_eq!(told(EVERY * 1_000, 1_000).len(), BURST as usize);
    }
}
