//! Waiting for a state, with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// How long a state is waited for where a test does not say: far more than it takes on a loaded machine.
pub const BOUND: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(5);

/// The state did not come.
#[derive(Debug, thiserror::Error)]
#[error("waited {bound:?} in vain for {what}")]
pub struct Late {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub bound: Duration,
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none within the bound; the last attempt is made at its end.
pub fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, Late> {
    let end = Instant::now() + bound;
    loop {
        let last = Instant::now() >= end;
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if last {
            return Err(Late {
                what: what.to_owned(),
                bound,
            });
        }
        thread::sleep(STEP);
    }
}
