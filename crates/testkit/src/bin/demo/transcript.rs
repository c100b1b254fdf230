//! The demo's output: lines with their time, each printed after its claim was checked.

use std::time::Instant;

/// Why the demo failed.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Prints lines with the seconds since the start.
pub(crate) struct Transcript {
    started_at: Instant,
}

impl Transcript {
    pub(crate) fn start() -> Self {
        Self {
            started_at: Instant::now(),
        }
    }

    /// Prints one step.
    pub(crate) fn step(&self, line: &str) {
        println!("{:6.2} s  {line}", self.started_at.elapsed().as_secs_f64());
    }

    /// Prints a program's output below its step.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("          | {line}");
        }
    }
}

/// Fails with `otherwise` unless a condition holds.
pub(crate) fn ensure(condition: bool, otherwise: &str) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(otherwise.into()) }
}
