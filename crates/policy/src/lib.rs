//! The policy file: who may come into the VPN, and with what.
//!
//! One parser and one evaluation for everyone who decides by a file: the reference portal and the agent's embedded
//! mode. Leans on `model`. Pure: text in, [`Policy`] out; it knows no file, no clock and no wire, so whoever owns the
//! file reads it, watches it and says when it changed.
//!
//! `docs/examples/policy.toml` shows every key; `docs/portal-dev.md` explains them.

mod file;
mod locate;
mod network;
mod problem;
mod rules;

pub use problem::{PolicyError, Problem};
pub use rules::{Answer, Policy};

#[cfg(test)]
mod tests;
