//! The portal's end of the control stream, as the test drives it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _, stream};
use ocserv_agent_proto::agent::v1::agent_message::Payload;
use ocserv_agent_proto::agent::v1::agent_service_server::AgentService;
use ocserv_agent_proto::agent::v1::server_message;
use ocserv_agent_proto::agent::v1::{
    AgentMessage, CommandRequest, CommandResponse, ConfigUpdateRequest, ConfigUpdateResponse, ControlAction,
    EventNotification, HealthCheckRequest, HealthCheckResponse, LogEntry, LogStreamRequest, ServerMessage,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

type Outgoing = mpsc::UnboundedSender<Result<ServerMessage, Status>>;

/// The streams that agents have opened, with what was received on them.
#[derive(Clone, Default)]
pub(crate) struct StreamDouble(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `None` answers `UNIMPLEMENTED`.
    is_served: bool,
    opened: usize,
    received: Vec<AgentMessage>,
    current: Option<Outgoing>,
    half_closed: usize,
}

impl StreamDouble {
    pub(crate) fn serve(&self) {
        self.0.lock().unwrap().is_served = true;
    }

    /// How many streams were opened, refused ones included.
    pub(crate) fn opened(&self) -> usize {
        self.0.lock().unwrap().opened
    }

    /// How many streams the agent has ended.
    pub(crate) fn half_closed(&self) -> usize {
        self.0.lock().unwrap().half_closed
    }

    /// The events of all streams, in order.
    pub(crate) fn events(&self) -> Vec<EventNotification> {
        let received = self.0.lock().unwrap().received.clone();
        let event = |message: AgentMessage| match message.payload {
            Some(Payload::Event(event)) => Some(event),
            _ => None,
        };
        received.into_iter().filter_map(event).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.event_type).collect()
    }

    pub(crate) fn received(&self) -> Vec<AgentMessage> {
        self.0.lock().unwrap().received.clone()
    }

    pub(crate) fn send(&self, request_id: &str, action: &str, parameters: &[(&str, &str)]) {
        let parameters = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let message = ServerMessage {
            request_id: request_id.to_owned(),
            payload: Some(server_message::Payload::Action(ControlAction {
                action_type: action.to_owned(),
                parameters: parameters.collect(),
            })),
        };
        let current = self.0.lock().unwrap().current.clone().unwrap();
        current.send(Ok(message)).unwrap();
    }

    /// Ends the current stream.
    pub(crate) fn end(&self, status: Option<Status>) {
        let current = self.0.lock().unwrap().current.take().unwrap();
        if let Some(status) = status {
            current.send(Err(status)).unwrap();
        }
    }
}

#[tonic::async_trait]
impl AgentService for StreamDouble {
    type AgentStreamStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;
    type StreamLogsStream = stream::Empty<Result<LogEntry, Status>>;

    async fn agent_stream(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::AgentStreamStream>, Status> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        {
            let mut state = self.0.lock().unwrap();
            state.opened += 1;
            if !state.is_served {
                return Err(Status::unimplemented("none"));
            }
            state.current = Some(sender);
        }
        let mut messages = request.into_inner();
        let this = self.clone();
        tokio_util::task::TaskTracker::new().spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                this.0.lock().unwrap().received.push(message);
            }
            this.0.lock().unwrap().half_closed += 1;
        });
        let outgoing = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn execute_command(&self, _: Request<CommandRequest>) -> Result<Response<CommandResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn update_config(
        &self,
        _: Request<ConfigUpdateRequest>,
    ) -> Result<Response<ConfigUpdateResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn stream_logs(
        &self,
        _: Request<LogStreamRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn health_check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }
}
