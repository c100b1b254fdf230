//! The control stream: the agent's end of `AgentStream`, which it opens on the connection for
//! background calls.
//!
//! The agent registers, reports and receives instructions. [`ControlStream::run`] opens the stream
//! again for ever. An event is repeated on the next stream, with the same `event_id`, until the
//! portal acknowledges it; a heartbeat or a report of metrics that could not be sent is replaced by
//! the next one.

mod message;
mod outgoing;
mod runner;
mod sender;
mod stream_service;
mod types;

pub use runner::{ControlStream, Register};
pub use sender::ControlSender;
pub use types::{
    AgentHealth, ControlStats, Heartbeat, Instruction, InstructionKind, MetricsReport, Notification,
    OcservState, SystemLoad,
};

/// Reads an instruction, for the fuzz target.
#[cfg(feature = "fuzzing")]
pub(crate) fn instruction(wire: ocserv_agent_proto::agent::v1::ServerMessage) -> Option<Instruction> {
    match message::received(wire) {
        message::Received::Instruction(instruction) => Some(instruction),
        message::Received::Acknowledged(_) | message::Received::Invalid(_) => None,
    }
}
