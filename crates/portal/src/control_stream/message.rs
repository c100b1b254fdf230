//! Messages of the control stream on the wire.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use ocserv_agent_model::one_line;
use ocserv_agent_proto::agent::v1 as wire;
use prost_types::Timestamp;

use super::types::{
    AgentHealth, Heartbeat, Instruction, InstructionKind, MAX_TEXT, MetricsReport, Notification, OcservState,
    SystemLoad,
};

pub(super) use wire::agent_message::Payload;

/// The action that acknowledges an event; its parameter has the id.
const ACKNOWLEDGE: &str = "acknowledge";
const EVENT_ID: &str = "event_id";

/// Longest `request_id` or name of an action, in characters.
const MAX_ID: usize = 128;

/// A message of the portal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Instruction(Instruction),
    /// The event with this id is stored.
    Acknowledged(String),
    /// What it lacks to be answered.
    Invalid(&'static str),
}

/// Reads a message of the portal.
pub(super) fn received(message: wire::ServerMessage) -> Received {
    use wire::server_message::Payload;
    let wire::ServerMessage { request_id, payload } = message;
    let kind = match payload {
        Some(Payload::Action(mut action)) if action.action_type == ACKNOWLEDGE => {
            return match action.parameters.remove(EVENT_ID) {
                Some(event_id) => Received::Acknowledged(event_id),
                None => Received::Invalid("acknowledge has no event_id"),
            };
        }
        Some(Payload::Action(action)) => InstructionKind::Action {
            name: one_line(&action.action_type, MAX_ID),
            parameters: action.parameters.into_iter().collect(),
        },
        Some(Payload::Command(_)) => InstructionKind::Command,
        Some(Payload::ConfigUpdate(_)) => InstructionKind::ConfigUpdate,
        None => return Received::Invalid("it has no payload that this agent knows"),
    };
    if request_id.is_empty() {
        return Received::Invalid("request_id is empty");
    }
    // Another id than that of the request would answer nothing.
    if one_line(&request_id, MAX_ID) != request_id {
        return Received::Invalid("request_id is not one line of at most 128 characters");
    }
    Received::Instruction(Instruction { request_id, kind })
}

/// Completes a message to the portal.
pub(super) fn message(agent_id: &str, at: SystemTime, payload: Payload) -> wire::AgentMessage {
    wire::AgentMessage {
        agent_id: agent_id.to_owned(),
        timestamp: Some(Timestamp::from(at)),
        payload: Some(payload),
    }
}

pub(super) fn event(notification: &Notification, event_id: &str) -> Payload {
    let metadata = notification.metadata.iter();
    let mut metadata: HashMap<String, String> = metadata
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    metadata.insert(EVENT_ID.to_owned(), event_id.to_owned());
    Payload::Event(wire::EventNotification {
        event_type: notification.kind.to_owned(),
        message: one_line(&notification.message, MAX_TEXT),
        metadata,
    })
}

pub(super) fn heartbeat(heartbeat: Heartbeat) -> Payload {
    let status = match heartbeat.health {
        AgentHealth::Healthy => wire::AgentStatus::Healthy,
        AgentHealth::Degraded => wire::AgentStatus::Degraded,
        AgentHealth::Unhealthy => wire::AgentStatus::Unhealthy,
    };
    Payload::Heartbeat(wire::Heartbeat {
        status: status.into(),
        system: heartbeat.system.map(system),
        ocserv: Some(ocserv(heartbeat.ocserv)),
    })
}

pub(super) fn metrics(report: MetricsReport) -> Payload {
    let custom: BTreeMap<_, _> = report.custom;
    Payload::Metrics(wire::MetricsReport {
        system: report.system.map(system),
        ocserv: Some(ocserv(report.ocserv)),
        custom_metrics: custom
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    })
}

/// The response that refuses an instruction of `kind`; `None` for an action, whose result is an
/// event.
pub(super) fn refusal(request_id: &str, kind: &InstructionKind, error: &str) -> Option<Payload> {
    let (request_id, error_message) = (request_id.to_owned(), error.to_owned());
    match kind {
        InstructionKind::Action { .. } => None,
        InstructionKind::Command => Some(Payload::CommandResponse(wire::CommandResponse {
            request_id,
            exit_code: -1,
            error_message,
            ..wire::CommandResponse::default()
        })),
        InstructionKind::ConfigUpdate => Some(Payload::ConfigUpdateResponse(wire::ConfigUpdateResponse {
            request_id,
            error_message,
            ..wire::ConfigUpdateResponse::default()
        })),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage of bytes")]
fn system(load: SystemLoad) -> wire::SystemMetrics {
    let share = load.memory_used as f64 / load.memory_total.max(1) as f64;
    wire::SystemMetrics {
        cpu_usage_percent: load.cpu_percent,
        memory_usage_percent: share * 100.0,
        memory_total_bytes: load.memory_total,
        memory_used_bytes: load.memory_used,
        load_average_1m: load.load_1m,
    }
}

fn ocserv(state: OcservState) -> wire::OcservStatus {
    wire::OcservStatus {
        is_running: state.is_running,
        version: state.version,
        active_sessions: state.sessions,
        total_bytes_in: state.bytes_in,
        total_bytes_out: state.bytes_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(request_id: &str, name: &str, parameters: &[(&str, &str)]) -> wire::ServerMessage {
        let parameters = parameters.iter();
        wire::ServerMessage {
            request_id: request_id.to_owned(),
            payload: Some(wire::server_message::Payload::Action(wire::ControlAction {
                action_type: name.to_owned(),
                parameters: parameters
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            })),
        }
    }

    #[test]
    fn an_instruction_needs_an_id_by_which_it_can_be_answered() {
        let instruction = |message| match received(message) {
            Received::Instruction(instruction) => Ok(instruction.request_id),
            Received::Invalid(why) => Err(why),
            Received::Acknowledged(id) => panic!("{id}"),
        };
        assert_eq!(instruction(action("7", "drain", &[])), Ok("7".to_owned()));
        let long = "x".repeat(129);
        for (id, why) in [("", "is empty"), ("a\nb", "one line"), (&long, "128")] {
            let error = instruction(action(id, "drain", &[])).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(instruction(wire::ServerMessage::default()).is_err());
    }

    #[test]
    fn an_acknowledgement_needs_no_request_id() {
        let acknowledged = action("", "acknowledge", &[("event_id", "a1/1/2")]);
        assert_eq!(
            received(acknowledged),
            Received::Acknowledged("a1/1/2".to_owned())
        );
        let without = received(action("", "acknowledge", &[]));
        assert!(matches!(without, Received::Invalid(_)));
    }
}
