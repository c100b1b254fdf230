//! The composition of the agent: its configuration, the IPC server that the connect-script asks, the gRPC server that the
//! portal calls, what is known about sessions, and start, reload and drain.
//!
//! Leans on every other crate of ours; nothing but the binary leans on it. Here, and nowhere else, the clock and the
//! environment are read, tasks are started and signals are taken. What is decided, and how, it leaves to the crates that
//! know.

mod clock;
pub mod config;
mod decision_file;
pub mod decisions;
#[cfg(test)]
mod example;
pub mod grpc;
pub mod ipc_server;
mod jobs;
mod lifecycle;
pub mod metrics;
mod operations;
mod pipeline;
mod retrying_listener;

pub use lifecycle::{Agent, ConfigSource, Outcome, StartError, run};
