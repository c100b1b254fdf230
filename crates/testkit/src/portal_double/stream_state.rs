//! What the double has of the agents' control streams.

use ocserv_agent_proto::agent::v1::{AgentMessage, ServerMessage};
use tokio::sync::mpsc;

/// What the double has of the agents' control streams.
#[derive(Default)]
pub(super) struct ControlStreams {
    /// Without it every stream is refused as `UNIMPLEMENTED`.
    pub(super) is_served: bool,
    pub(super) acknowledges: bool,
    pub(super) opened: usize,
    pub(super) received: Vec<AgentMessage>,
    pub(super) outgoing: Option<mpsc::UnboundedSender<ServerMessage>>,
}
