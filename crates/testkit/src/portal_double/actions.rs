//! What a test does with the agents' control streams.

use ocserv_agent_proto::agent::v1::agent_message::Payload;
use ocserv_agent_proto::agent::v1::{
    AgentMessage, ControlAction, EventNotification, ServerMessage, server_message,
};

use super::PortalDouble;
use crate::wait::{self, BOUND, WaitTimeout};

impl PortalDouble {
    /// Serves control streams from now on; with `acknowledge` every event is acknowledged.
    pub fn serve_control_streams(&self, acknowledge: bool) {
        let mut control = self.state.control();
        (control.is_served, control.acknowledges) = (true, acknowledge);
    }

    /// Returns the number of control streams that were opened.
    #[must_use]
    pub fn control_streams(&self) -> usize {
        self.state.control().opened
    }

    /// Returns the messages of all control streams, in order and with repetitions.
    #[must_use]
    pub fn agent_messages(&self) -> Vec<AgentMessage> {
        self.state.control().received.clone()
    }

    /// Returns the events of all control streams, in order and with repetitions.
    #[must_use]
    pub fn agent_events(&self) -> Vec<EventNotification> {
        let event = |message: AgentMessage| match message.payload {
            Some(Payload::Event(event)) => Some(event),
            _ => None,
        };
        self.agent_messages().into_iter().filter_map(event).collect()
    }

    /// Waits for an event of this kind that `wanted` accepts.
    ///
    /// # Errors
    /// When it has not been received in time.
    pub fn wait_for_agent_event(
        &self,
        kind: &str,
        wanted: impl Fn(&EventNotification) -> bool,
    ) -> Result<EventNotification, WaitTimeout> {
        wait::until(&format!("the agent's event {kind}"), BOUND, || {
            let events = self.agent_events();
            events
                .into_iter()
                .find(|event| event.event_type == kind && wanted(event))
        })
    }

    /// Sends an action on the latest control stream; `false` without one.
    pub fn send_action(&self, request_id: &str, action: &str, parameters: &[(&str, &str)]) -> bool {
        let parameters = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.send_instruction(ServerMessage {
            request_id: request_id.to_owned(),
            payload: Some(server_message::Payload::Action(ControlAction {
                action_type: action.to_owned(),
                parameters: parameters.collect(),
            })),
        })
    }

    /// Sends any instruction on the latest control stream; `false` without one.
    pub fn send_instruction(&self, message: ServerMessage) -> bool {
        let control = self.state.control();
        let outgoing = control.outgoing.as_ref();
        outgoing.is_some_and(|outgoing| outgoing.send(message).is_ok())
    }

    /// Ends the latest control stream; its connection stays.
    pub fn end_control_stream(&self) {
        self.state.control().outgoing = None;
    }

    /// Has an agent execute an action, and returns its result. The action is sent again on each new
    /// stream.
    ///
    /// # Errors
    /// When there is no result in time.
    pub fn execute(
        &self,
        request_id: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<EventNotification, WaitTimeout> {
        let is_result = |event: &EventNotification| {
            let id = event.metadata.get("request_id");
            event.event_type == "action_result" && id.is_some_and(|id| id == request_id)
        };
        let mut sent_on = None;
        wait::until(&format!("the result of {action}"), BOUND, || {
            let stream = self.control_streams();
            if sent_on != Some(stream) && self.send_action(request_id, action, parameters) {
                sent_on = Some(stream);
            }
            self.agent_events().into_iter().find(is_result)
        })
    }
}
