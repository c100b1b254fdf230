//! Waits for a state, with a timeout.

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a state unless a test says otherwise, far longer than any takes on a busy
/// machine.
pub const BOUND: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(5);

/// A state was not reached in time.
#[derive(Debug, thiserror::Error)]
#[error("no {what} within {bound:?}")]
pub struct WaitTimeout {
    /// The state.
    pub what: String,
    /// The timeout.
    pub bound: Duration,
}

/// Calls `probe` until it returns a value.
///
/// # Errors
/// When it has returned none within `bound`; the last call is made at its end.
pub fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, WaitTimeout> {
    let end = Instant::now() + bound;
    loop {
        let last = Instant::now() >= end;
        if let Some(value) = probe() {
            return Ok(value);
        }
        if last {
            return Err(WaitTimeout {
                what: what.to_owned(),
                bound,
            });
        }
        thread::sleep(STEP);
    }
}
