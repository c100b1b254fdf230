//! Development tasks of this workspace, as functions: `main.rs` adds a command line, `tests/` runs
//! the checks.
//!
//! Depends on no crate of ours, so that a broken crate does not break the tools that find it.

pub mod bench;
pub mod check;
pub mod codegen;
pub mod demo;
pub mod fuzz;
pub mod run;
pub mod setup;
pub mod test;
pub mod tidy;
