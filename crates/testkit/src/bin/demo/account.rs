//! The account that the demo gives: timed lines, each said after it was checked.

use std::time::Instant;

/// What went wrong.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Tells lines with the seconds since the start.
pub(crate) struct Account {
    since: Instant,
}

impl Account {
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// One thing that happened.
    pub(crate) fn tell(&self, line: &str) {
        println!("{:6.2} s  {line}", self.since.elapsed().as_secs_f64());
    }

    /// What a program said, beneath the line that it belongs to.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            println!("          | {line}");
        }
    }
}

/// Fails with `what` unless it is so.
pub(crate) fn ensure(so: bool, what: &str) -> Result<(), Failure> {
    if so { Ok(()) } else { Err(what.into()) }
}
