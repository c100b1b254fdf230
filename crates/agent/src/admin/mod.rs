//! Client side of the operator's commands, for the command line.

pub mod decisions;
pub mod events;
mod request;

pub use request::FetchError;
