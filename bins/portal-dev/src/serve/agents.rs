//! The agents with a control stream, and the actions that they have not answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ocserv_agent_proto::agent::v1::{AgentStatus, ControlAction, Heartbeat, ServerMessage, server_message};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::control_protocol::{ActionResult, AgentInfo};

type Outgoing = mpsc::Sender<Result<ServerMessage, Status>>;

/// One of an agent's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamNumber(u64);

struct Agent {
    info: AgentInfo,
    stream: StreamNumber,
    outgoing: Outgoing,
}

/// An action that is sent again with each registration until it is answered.
struct Unanswered {
    agent_id: String,
    request_id: String,
    message: ServerMessage,
    answer: oneshot::Sender<ActionResult>,
}

#[derive(Default)]
struct State {
    agents: BTreeMap<String, Agent>,
    /// In the order of sending.
    unanswered: Vec<Unanswered>,
    streams: u64,
}

/// The agents.
#[derive(Default)]
pub(super) struct Agents(Mutex<State>);

impl State {
    fn take_unanswered(&mut self, agent_id: &str, request_id: &str) -> Option<Unanswered> {
        let mut actions = self.unanswered.iter();
        let index =
            actions.position(|action| action.agent_id == agent_id && action.request_id == request_id)?;
        Some(self.unanswered.remove(index))
    }
}

impl Agents {
    /// Lists the agents with a stream.
    pub(super) fn list(&self) -> Vec<AgentInfo> {
        let state = self.lock();
        state.agents.values().map(|agent| agent.info.clone()).collect()
    }

    /// Sends an action; the receiver gets its result.
    ///
    /// # Errors
    /// When the agent has no stream, or its queue is full.
    pub(super) fn send(
        &self,
        agent_id: &str,
        request_id: &str,
        message: ServerMessage,
    ) -> Result<oneshot::Receiver<ActionResult>, String> {
        let mut state = self.lock();
        let Some(agent) = state.agents.get(agent_id) else {
            return Err(format!("agent {agent_id} has no control stream"));
        };
        let sent = agent.outgoing.try_send(Ok(message.clone()));
        sent.map_err(|_| format!("agent {agent_id} reads nothing"))?;
        let (answer, result) = oneshot::channel();
        state.take_unanswered(agent_id, request_id);
        state.unanswered.push(Unanswered {
            agent_id: agent_id.to_owned(),
            request_id: request_id.to_owned(),
            message,
            answer,
        });
        Ok(result)
    }

    /// Forgets an action that nobody waits for any more.
    pub(super) fn forget(&self, agent_id: &str, request_id: &str) {
        self.lock().take_unanswered(agent_id, request_id);
    }

    pub(super) fn registered(
        &self,
        agent_id: &str,
        peer: String,
        registration: HashMap<String, String>,
        outgoing: Outgoing,
    ) -> StreamNumber {
        let registration: BTreeMap<_, _> = registration.into_iter().collect();
        let value = |key: &str| registration.get(key).cloned();
        let mut state = self.lock();
        state.streams += 1;
        let stream = StreamNumber(state.streams);
        let info = AgentInfo {
            agent_id: agent_id.to_owned(),
            peer,
            state: value("state").unwrap_or_else(|| "serving".to_owned()),
            health: String::new(),
            sessions: value("sessions").and_then(|count| count.parse().ok()),
            connected_since: now(),
            last_message: now(),
            registration,
        };
        let agent = Agent {
            info,
            stream,
            outgoing,
        };
        state.agents.insert(agent_id.to_owned(), agent);
        stream
    }

    /// Returns the actions that the agent has not answered, in the order of sending.
    pub(super) fn unanswered(&self, agent_id: &str) -> Vec<ServerMessage> {
        let state = self.lock();
        let of_agent = state
            .unanswered
            .iter()
            .filter(|action| action.agent_id == agent_id);
        of_agent.map(|action| action.message.clone()).collect()
    }

    pub(super) fn seen(&self, agent_id: &str, stream: StreamNumber) {
        self.change(agent_id, |agent| {
            if agent.stream == stream {
                agent.info.last_message = now();
            }
        });
    }

    pub(super) fn heartbeat(&self, agent_id: &str, heartbeat: &Heartbeat) {
        self.change(agent_id, |agent| {
            health(heartbeat.status).clone_into(&mut agent.info.health);
            agent.info.sessions = heartbeat.ocserv.as_ref().map(|ocserv| ocserv.active_sessions);
        });
    }

    pub(super) fn set_state(&self, agent_id: &str, state: &str) {
        self.change(agent_id, |agent| state.clone_into(&mut agent.info.state));
    }

    /// Takes the result of an action from the metadata of its event.
    pub(super) fn result(&self, agent_id: &str, metadata: &HashMap<String, String>, message: &str) {
        let mut details: BTreeMap<String, String> = metadata.clone().into_iter().collect();
        details.remove("event_id");
        let Some(request_id) = details.remove("request_id") else {
            return;
        };
        let success = details.remove("success").as_deref() == Some("true");
        self.answer(
            agent_id,
            ActionResult {
                request_id,
                success,
                message: message.to_owned(),
                details,
            },
        );
    }

    /// Takes the response to a command or a configuration file.
    pub(super) fn answered(&self, agent_id: &str, request_id: &str, success: bool, error: &str) {
        self.answer(
            agent_id,
            ActionResult {
                request_id: request_id.to_owned(),
                success,
                message: error.to_owned(),
                details: BTreeMap::new(),
            },
        );
    }

    pub(super) fn disconnected(&self, agent_id: &str, stream: StreamNumber) {
        let mut state = self.lock();
        if state
            .agents
            .get(agent_id)
            .is_some_and(|agent| agent.stream == stream)
        {
            state.agents.remove(agent_id);
        }
    }

    fn answer(&self, agent_id: &str, result: ActionResult) {
        let unanswered = self.lock().take_unanswered(agent_id, &result.request_id);
        if let Some(unanswered) = unanswered {
            // Who asked may have gone.
            let _ = unanswered.answer.send(result);
        }
    }

    fn change(&self, agent_id: &str, change: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.lock().agents.get_mut(agent_id) {
            change(agent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic leaves the state inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the name of an agent's health.
pub(super) fn health(number: i32) -> &'static str {
    match AgentStatus::try_from(number) {
        Ok(AgentStatus::Healthy) => "healthy",
        Ok(AgentStatus::Degraded) => "degraded",
        Ok(AgentStatus::Unhealthy) => "unhealthy",
        Ok(AgentStatus::Unspecified) | Err(_) => "unspecified",
    }
}

/// Makes an instruction.
pub(super) fn action(
    request_id: &str,
    name: &str,
    parameters: impl IntoIterator<Item = (String, String)>,
) -> ServerMessage {
    ServerMessage {
        request_id: request_id.to_owned(),
        payload: Some(server_message::Payload::Action(ControlAction {
            action_type: name.to_owned(),
            parameters: parameters.into_iter().collect(),
        })),
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
