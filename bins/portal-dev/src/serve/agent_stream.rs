//! `AgentService/AgentStream`: the agents' control streams.

use std::pin::Pin;
use std::sync::Arc;

use ocserv_agent_proto::agent::v1::agent_message::Payload;
use ocserv_agent_proto::agent::v1::agent_service_server::AgentService;
use ocserv_agent_proto::agent::v1::{
    AgentMessage, CommandRequest, CommandResponse, ConfigUpdateRequest, ConfigUpdateResponse,
    EventNotification, HealthCheckRequest, HealthCheckResponse, Heartbeat, LogEntry, LogStreamRequest,
    MetricsReport, ServerMessage,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::agents::{self, Agents, StreamNumber};
use super::caller::caller;
use super::journal::Journal;
use super::journal_entry::{AgentEvent, JournalEntry, OcservState};

/// Messages to one agent that wait.
const QUEUE_CAPACITY: usize = 64;

type ServerMessages = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

pub(super) struct AgentStreams {
    agents: Arc<Agents>,
    journal: Journal,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One stream.
struct Connection {
    agents: Arc<Agents>,
    journal: Journal,
    peer: String,
    outgoing: mpsc::Sender<Result<ServerMessage, Status>>,
    /// Set by the registration.
    registered: Option<(String, StreamNumber)>,
}

impl AgentStreams {
    pub(super) fn new(
        agents: Arc<Agents>,
        journal: Journal,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            agents,
            journal,
            tasks,
            stop,
        }
    }
}

impl Connection {
    /// Receives until the agent ends the stream, or `stop`.
    async fn receive(mut self, mut messages: Streaming<AgentMessage>, stop: CancellationToken) {
        while let Some(Some(Ok(message))) = stop.run_until_cancelled(messages.next()).await {
            if self.handle(message).await.is_none() {
                break;
            }
        }
        if let Some((agent_id, number)) = &self.registered {
            self.agents.disconnected(agent_id, *number);
        }
    }

    /// `None` ends the stream.
    async fn handle(&mut self, message: AgentMessage) -> Option<()> {
        let AgentMessage {
            agent_id, payload, ..
        } = message;
        if let Some((registered, number)) = &self.registered {
            if *registered != agent_id {
                self.fail(Status::invalid_argument(
                    "agent_id: is not the same in every message",
                ))
                .await;
                return None;
            }
            self.agents.seen(registered, *number);
        }
        match payload {
            Some(Payload::Event(event)) => return self.event(agent_id, event).await,
            Some(Payload::Heartbeat(heartbeat)) => {
                self.agents.heartbeat(&agent_id, &heartbeat);
                self.journal.append(self.heartbeat(agent_id, &heartbeat)).await;
            }
            Some(Payload::Metrics(report)) => self.journal.append(self.metrics(agent_id, report)).await,
            Some(Payload::CommandResponse(response)) => {
                let error = response.error_message;
                self.agents
                    .answered(&agent_id, &response.request_id, response.success, &error);
            }
            Some(Payload::ConfigUpdateResponse(response)) => {
                let error = response.error_message;
                self.agents
                    .answered(&agent_id, &response.request_id, response.success, &error);
            }
            None => {}
        }
        Some(())
    }

    /// Acknowledges an event once it is written.
    async fn event(&mut self, agent_id: String, event: EventNotification) -> Option<()> {
        let EventNotification {
            event_type,
            message,
            metadata,
        } = event;
        match event_type.as_str() {
            "registered" => {
                let peer = self.peer.clone();
                let number = self
                    .agents
                    .registered(&agent_id, peer, metadata.clone(), self.outgoing.clone());
                self.registered = Some((agent_id.clone(), number));
                for message in self.agents.unanswered(&agent_id) {
                    self.outgoing.send(Ok(message)).await.ok()?;
                }
            }
            _ if self.registered.is_none() => {
                self.fail(Status::failed_precondition(
                    "the first message is not a registration",
                ))
                .await;
                return None;
            }
            "action_result" => self.agents.result(&agent_id, &metadata, &message),
            "draining" => self.agents.set_state(&agent_id, "draining"),
            "resumed" => self.agents.set_state(&agent_id, "serving"),
            "deregistered" => self.agents.set_state(&agent_id, "stopping"),
            _ => {}
        }
        let event_id = metadata.get("event_id").cloned();
        let entry = JournalEntry::AgentEvent {
            peer: self.peer.clone(),
            event: AgentEvent {
                agent_id,
                event_type,
                event_id: event_id.clone(),
                message,
                metadata: metadata.into_iter().collect(),
                duplicate: false,
            },
        };
        // What is not written is not acknowledged: the agent sends it again.
        if let (Some(_), Some(event_id)) = (self.journal.write(entry).await, event_id) {
            let acknowledgement = agents::action("", "acknowledge", [("event_id".to_owned(), event_id)]);
            self.outgoing.send(Ok(acknowledgement)).await.ok()?;
        }
        Some(())
    }

    fn heartbeat(&self, agent_id: String, heartbeat: &Heartbeat) -> JournalEntry {
        let system = heartbeat.system.unwrap_or_default();
        JournalEntry::Heartbeat {
            peer: self.peer.clone(),
            agent_id,
            status: agents::health(heartbeat.status).to_owned(),
            ocserv: heartbeat.ocserv.clone().map(OcservState::from),
            cpu_usage_percent: system.cpu_usage_percent,
            memory_usage_percent: system.memory_usage_percent,
            load_average_1m: system.load_average_1m,
        }
    }

    fn metrics(&self, agent_id: String, report: MetricsReport) -> JournalEntry {
        JournalEntry::AgentMetrics {
            peer: self.peer.clone(),
            agent_id,
            ocserv: report.ocserv.map(OcservState::from),
            metrics: report.custom_metrics.into_iter().collect(),
        }
    }

    async fn fail(&self, status: Status) {
        // The agent may have gone.
        let _ = self.outgoing.send(Err(status)).await;
    }
}

#[tonic::async_trait]
impl AgentService for AgentStreams {
    type AgentStreamStream = ServerMessages;
    type StreamLogsStream = Pin<Box<dyn Stream<Item = Result<LogEntry, Status>> + Send>>;

    async fn agent_stream(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<ServerMessages>, Status> {
        let (outgoing, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let connection = Connection {
            agents: Arc::clone(&self.agents),
            journal: self.journal.clone(),
            peer: caller(&request),
            outgoing,
            registered: None,
        };
        // The stream ends when the connection drops its sender.
        self.tasks
            .spawn(connection.receive(request.into_inner(), self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn execute_command(&self, _: Request<CommandRequest>) -> Result<Response<CommandResponse>, Status> {
        Err(served_by_the_agent())
    }

    async fn update_config(
        &self,
        _: Request<ConfigUpdateRequest>,
    ) -> Result<Response<ConfigUpdateResponse>, Status> {
        Err(served_by_the_agent())
    }

    async fn stream_logs(
        &self,
        _: Request<LogStreamRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        Err(served_by_the_agent())
    }

    async fn health_check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Err(served_by_the_agent())
    }
}

fn served_by_the_agent() -> Status {
    Status::unimplemented("an agent serves this call, not a portal")
}
