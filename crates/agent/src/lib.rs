//! The agent: one process that decides logins, records sessions and obeys the portal.
//!
//! Leans on every other crate of ours; nothing but the binary leans on it. From the top down, and arrows
//! run down only:
//!
//! - `app` builds, starts, reloads and shuts down; it alone reads the configuration;
//! - `ipc`, `grpc` and `admin` are the endpoints: they authenticate, parse, call one operation, answer;
//! - `jobs` is what runs by itself;
//! - `operations` is what the agent does, one file per use case, for endpoints and jobs alike;
//! - `metrics` counts, one file per subsystem;
//! - `config` is the schema, its loading and its checks.
//!
//! `clock` is the only reader of the time.

pub mod admin;
mod app;
mod clock;
pub mod config;
#[cfg(test)]
mod fixture;
mod grpc;
mod ipc;
mod jobs;
mod live;
mod metrics;
mod operations;
mod retrying_listener;

pub use app::{ConfigSource, ExitReason, StartError, run};
