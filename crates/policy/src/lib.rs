//! The policy file: who may connect to the VPN, and with which routes and name servers.
//!
//! One parser, one evaluation and one watcher for both users of the format: the reference portal
//! and the agent's embedded mode. [`Policy`] is pure. [`PolicyFile`] reads the disk when its owner
//! polls it; [`PolicyCopy`] is the last good policy on the disk.
//!
//! Leans on `model`. Never knows a clock, a task or the wire.
//!
//! `docs/examples/policy.toml` shows every key; `docs/portal-dev.md` explains them.

mod error;
mod locate;
mod network;
mod parse;
mod policy_copy;
mod policy_file;
mod rules;

pub use error::PolicyError;
pub use policy_copy::{PolicyCopy, PolicyCopyError};
pub use policy_file::{PolicyFile, PolicyFileError};
pub use rules::{Evaluation, Policy};

#[cfg(test)]
mod tests;
