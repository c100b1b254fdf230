//! The helper as a process, against stub agents on real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a broken stub fails the test")]

mod deadline;
mod dependencies;
mod process;
mod responses;
mod stub;
mod wrapper;
