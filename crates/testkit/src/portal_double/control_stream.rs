//! The double's end of the agent's control stream.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use ocserv_agent_proto::agent::v1::agent_message::Payload;
use ocserv_agent_proto::agent::v1::{AgentMessage, ControlAction, ServerMessage, server_message};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::reply::framed;
use super::response::{GrpcResponse, success};
use super::state::State;

/// Answers a control stream; `None` where it is not served.
pub(super) fn respond(state: &Arc<State>, body: Incoming) -> Option<GrpcResponse> {
    let (sender, receiver) = mpsc::unbounded_channel();
    {
        let mut control = state.control();
        control.opened += 1;
        if !control.is_served {
            return None;
        }
        control.outgoing = Some(sender.clone());
    }
    // The double's runtime owns the task, which ends with the stream or with the runtime.
    TaskTracker::new().spawn(receive(Arc::clone(state), body, sender.downgrade()));
    let frames = stream::unfold(
        receiver,
        |mut receiver: mpsc::UnboundedReceiver<ServerMessage>| async move {
            let message = receiver.recv().await?;
            Some((Ok::<_, io::Error>(Frame::data(framed(&message))), receiver))
        },
    );
    drop(sender);
    Some(success(BodyExt::boxed(StreamBody::new(frames))))
}

async fn receive(state: Arc<State>, mut body: Incoming, outgoing: mpsc::WeakUnboundedSender<ServerMessage>) {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
        while let Some(message) = take_message(&mut bytes) {
            record(&state, message, &outgoing);
        }
    }
}

fn record(state: &State, message: AgentMessage, outgoing: &mpsc::WeakUnboundedSender<ServerMessage>) {
    let mut control = state.control();
    if control.acknowledges
        && let Some(Payload::Event(event)) = &message.payload
        && let Some(outgoing) = outgoing.upgrade()
    {
        let event_id = event.metadata.get("event_id").cloned().unwrap_or_default();
        // The stream may have ended.
        let _ = outgoing.send(ServerMessage {
            request_id: String::new(),
            payload: Some(server_message::Payload::Action(ControlAction {
                action_type: "acknowledge".to_owned(),
                parameters: [("event_id".to_owned(), event_id)].into(),
            })),
        });
    }
    control.received.push(message);
}

/// Takes a whole gRPC frame from the front of `bytes`.
fn take_message(bytes: &mut Vec<u8>) -> Option<AgentMessage> {
    let length = bytes.get(1..5)?.try_into().map(u32::from_be_bytes).ok()?;
    let end = usize::try_from(length).ok()?.checked_add(5)?;
    let message = AgentMessage::decode(bytes.get(5..end)?).ok();
    bytes.drain(..end);
    message
}
