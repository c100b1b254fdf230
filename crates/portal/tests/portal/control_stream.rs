//! The control stream: registration, repetition, instructions, and its end.

use std::time::Duration;

use futures_util::FutureExt as _;
use ocserv_agent_proto::agent::v1::agent_message::Payload;
use portal::{ControlSender, Instruction, InstructionKind, Notification};
use tokio::sync::mpsc;
use tonic::Status;

use crate::log::Log;
use crate::pki::Ca;
use crate::proxy::Mode;
use crate::setup::{BOUND, Setup, eventually};

struct Control {
    setup: Setup,
    sender: ControlSender,
    instructions: mpsc::Receiver<Instruction>,
}

impl Control {
    /// A client whose control stream runs, with a portal that serves it or not.
    async fn new(is_served: bool) -> Self {
        let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
            settings.keepalive_interval = Duration::from_secs(1);
        })
        .await;
        if is_served {
            setup.double.stream.serve();
        }
        let sender = ControlSender::new("a1", "1");
        let (queue, instructions) = mpsc::channel(4);
        let register = Box::new(|| async { Notification::new("registered", "hello") }.boxed());
        let stream = setup.portal.control_stream(sender.clone(), register, queue);
        setup.client_tasks.spawn(stream.run());
        Self {
            setup,
            sender,
            instructions,
        }
    }

    async fn sees(&self, kinds: &[&str]) {
        let stream = &self.setup.double.stream;
        eventually(&format!("{kinds:?}, not {:?}", stream.kinds()), || {
            stream.kinds() == kinds
        })
        .await;
    }

    async fn next(&mut self) -> Instruction {
        let next = tokio::time::timeout(BOUND, self.instructions.recv());
        next.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_event_that_was_not_acknowledged_is_repeated_on_the_next_stream() {
    let control = Control::new(true).await;
    let stream = &control.setup.double.stream;
    control.sender.notify(&Notification::new("draining", "x"));
    control
        .sender
        .notify(&Notification::new("resumed", "x").with("by", "portal"));
    control.sees(&["registered", "draining", "resumed"]).await;
    let events = stream.events();
    assert_eq!(events[2].metadata["by"], "portal");
    let id = |index: usize| events[index].metadata["event_id"].clone();
    stream.send("", "acknowledge", &[("event_id", &id(1))]);
    eventually("the acknowledgement", || control.sender.stats().pending == 1).await;
    stream.end(Some(Status::unavailable("restarting")));
    control
        .sees(&["registered", "draining", "resumed", "registered", "resumed"])
        .await;
    assert_eq!(stream.events()[4].metadata["event_id"], id(2));
    eventually("the second stream", || control.sender.stats().connected).await;
    // As when the portal is killed, or its network fails.
    control.setup.proxy.set(Mode::Refuse);
    eventually("the end of the stream", || !control.sender.stats().connected).await;
    control.setup.proxy.set(Mode::Forward);
    eventually("a third stream", || stream.opened() >= 3).await;
    for message in stream.received() {
        assert_eq!(message.agent_id, "a1");
        assert!(message.timestamp.is_some());
    }
}

#[tokio::test]
async fn an_instruction_arrives_and_one_without_an_operation_is_answered_in_its_kind() {
    let mut control = Control::new(true).await;
    control.sees(&["registered"]).await;
    let stream = control.setup.double.stream.clone();
    stream.send("r1", "disconnect_user", &[("username", "alice")]);
    let instruction = control.next().await;
    assert_eq!(instruction.request_id, "r1");
    let InstructionKind::Action { name, parameters } = &instruction.kind else {
        panic!("{instruction:?}");
    };
    assert_eq!(
        (name.as_str(), parameters["username"].as_str()),
        ("disconnect_user", "alice")
    );
    control
        .sender
        .refuse("c1", &InstructionKind::Command, "this agent runs no commands");
    eventually("the response", || {
        stream.received().iter().any(|message| {
            matches!(&message.payload, Some(Payload::CommandResponse(response))
                if response.request_id == "c1" && !response.success)
        })
    })
    .await;
    assert_eq!(control.sender.stats().pending, 0, "a response is not repeated");
}

#[tokio::test]
async fn a_portal_without_the_stream_costs_one_line_and_few_attempts() {
    let (log, _guard) = Log::capture();
    let control = Control::new(false).await;
    log.wait_for("portal serves no control stream").await;
    control.sender.notify(&Notification::new("draining", "x"));
    assert_eq!(control.sender.stats().pending, 0);
    eventually("two more attempts", || control.setup.double.stream.opened() >= 3).await;
    assert_eq!(log.count("serves no control stream"), 1);
    assert_eq!(log.count("control stream ended"), 0);
    control.setup.double.stream.serve();
    control.sees(&["registered"]).await;
}

#[tokio::test]
async fn the_stream_moves_to_a_new_connection_at_once() {
    let control = Control::new(true).await;
    control.sees(&["registered"]).await;
    control.setup.portal.reconnect();
    control.sees(&["registered", "registered"]).await;
}

#[tokio::test]
async fn a_close_sends_what_is_left_and_ends_the_stream() {
    let (log, _guard) = Log::capture();
    let control = Control::new(true).await;
    control.sees(&["registered"]).await;
    control.sender.notify(&Notification::new("deregistered", "stop"));
    control.sender.close();
    control.sees(&["registered", "deregistered"]).await;
    let stream = &control.setup.double.stream;
    eventually("the end of the agent's half", || stream.half_closed() == 1).await;
    stream.end(None);
    assert_eq!(log.count("control stream ended"), 0);
    assert_eq!(stream.opened(), 1);
}
