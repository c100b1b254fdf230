//! The helper as a process: real runs against stub agents on real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a broken stub fails the test")]

mod answers;
mod process;
mod stub;
mod tree;
mod wrapper;
