//! Client side of the operator's commands, for the command line.

pub mod decisions;
