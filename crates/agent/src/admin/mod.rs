//! The operator's endpoint: what the command line asks of the running agent.

pub mod decisions;
