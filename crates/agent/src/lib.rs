//! The agent: one process that authorizes logins, records sessions and serves the portal's calls.
//!
//! Depends on every other library crate; only the binary depends on it. Modules, from the top down;
//! each depends only on those below it:
//!
//! - `app` builds, starts, reloads and shuts down; it alone reads the configuration;
//! - `ipc`, `grpc`, `control_stream` and `admin` are the endpoints: authenticate, parse, call one
//!   operation, respond;
//! - `jobs` has the background tasks;
//! - `operations` has one file per use case, called by endpoints and jobs alike;
//! - `metrics` has one file per subsystem;
//! - `config` has the schema, its loading and its checks.
//!
//! `clock` is the only module that reads the time.

pub mod admin;
mod app;
mod clock;
pub mod config;
mod control_stream;
#[cfg(test)]
mod fixture;
mod grpc;
mod ipc;
mod jobs;
mod live;
mod metrics;
mod operations;
mod retrying_listener;

pub use telemetry::{error_lines, is_journal};

pub use app::{ConfigSource, ExitReason, StartError, Supervision, run};
