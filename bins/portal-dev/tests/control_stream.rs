//! Agents' control streams to `portal-dev serve`, and `agents`, `action` and `books`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use ocserv_agent_proto::agent::v1::agent_message::Payload;
use ocserv_agent_proto::agent::v1::agent_service_client::AgentServiceClient;
use ocserv_agent_proto::agent::v1::{
    AgentMessage, EventNotification, Heartbeat, OcservStatus, ServerMessage, server_message,
};
use serde_json::Value;
use support::{BOUND, Portal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

const POLICY: &str = "version = 1\ndefault = \"allow\"\n";

/// An agent with a control stream.
struct Agent {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<ServerMessage>,
}

impl Agent {
    async fn connect(portal: &Portal) -> Self {
        let client = portal.client().await;
        let origin = http::Uri::from_static("https://localhost");
        let mut client = AgentServiceClient::with_origin(client.sender, origin);
        let (outgoing, messages) = mpsc::channel(8);
        let agent = Self {
            outgoing,
            incoming: client
                .agent_stream(ReceiverStream::new(messages))
                .await
                .unwrap()
                .into_inner(),
        };
        agent
            .event("registered", "e1", &[("version", "9.9"), ("role", "operator")])
            .await;
        agent
    }

    async fn send(&self, payload: Payload) {
        let message = AgentMessage {
            agent_id: "vpn1".to_owned(),
            timestamp: None,
            payload: Some(payload),
        };
        self.outgoing.send(message).await.unwrap();
    }

    async fn event(&self, kind: &str, event_id: &str, metadata: &[(&str, &str)]) {
        let id = [("event_id", event_id)];
        let metadata = metadata.iter().chain(&id);
        let metadata = metadata.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.send(Payload::Event(EventNotification {
            event_type: kind.to_owned(),
            message: "a sentence".to_owned(),
            metadata: metadata.collect(),
        }))
        .await;
    }

    /// The next action, with its request id and its parameters.
    async fn action(&mut self) -> (String, String, Value) {
        let message = timeout(BOUND, self.incoming.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let Some(server_message::Payload::Action(action)) = message.payload else {
            panic!("no action: {:?}", message.request_id);
        };
        let parameters = serde_json::to_value(action.parameters).unwrap();
        (message.request_id, action.action_type, parameters)
    }

    async fn acknowledged(&mut self, event_id: &str) {
        let (_, action, parameters) = self.action().await;
        assert_eq!(
            (action.as_str(), &parameters["event_id"]),
            ("acknowledge", &event_id.into())
        );
    }
}

/// Runs a command against a portal, without blocking the test.
async fn command(portal: &Portal, args: &[&str]) -> std::process::Output {
    let mut command = support::portal_dev();
    command.current_dir(portal.dir.path()).args(args);
    let output = tokio::task::spawn_blocking(move || command.output());
    timeout(BOUND, output).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn an_agent_is_listed_and_its_events_are_written_once_acknowledged() {
    let portal = Portal::start(POLICY);
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    agent
        .send(Payload::Heartbeat(Heartbeat {
            status: 1,
            system: None,
            ocserv: Some(OcservStatus {
                is_running: true,
                active_sessions: 7,
                ..OcservStatus::default()
            }),
        }))
        .await;
    portal.wait_for_events("heartbeat", 1).await;
    for _ in 0..2 {
        agent.event("draining", "e2", &[]).await;
        agent.acknowledged("e2").await;
    }
    let events = portal.wait_for_events("agent_event", 3).await;
    let written: Vec<_> = events
        .iter()
        .map(|event| (event["event_type"].as_str().unwrap(), event["duplicate"] == true))
        .collect();
    assert_eq!(
        written,
        [("registered", false), ("draining", false), ("draining", true)]
    );

    let table = command(&portal, &["agents"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    for part in ["vpn1", "draining", "healthy", "7", "9.9", "operator"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    let json = command(&portal, &["agents", "--json"]).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json[0]["agent_id"], &json[0]["sessions"]),
        (&"vpn1".into(), &7.into())
    );
    drop(agent);
    loop {
        let json = command(&portal, &["agents", "--json"]).await;
        if json.stdout == b"[]\n" {
            break;
        }
    }
}

#[tokio::test]
async fn an_action_is_repeated_to_an_agent_that_lost_its_stream_until_it_is_answered() {
    let portal = Portal::start(POLICY);
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    let call = command(
        &portal,
        &["action", "vpn1", "disconnect_user", "username=alice", "--json"],
    );
    let act = async {
        let (first, name, parameters) = agent.action().await;
        assert_eq!(
            (name.as_str(), &parameters["username"]),
            ("disconnect_user", &"alice".into())
        );
        drop(agent);
        let mut agent = Agent::connect(&portal).await;
        let (second, ..) = agent.action().await;
        assert_eq!(first, second);
        let result = [
            ("request_id", second.as_str()),
            ("success", "true"),
            ("sessions_disconnected", "2"),
        ];
        agent.event("action_result", "e3", &result).await;
        agent
    };
    let (output, _agent) = tokio::join!(call, act);
    assert_eq!(output.status.code(), Some(0), "{}", support::stderr(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["details"]["sessions_disconnected"], "2");
}

#[tokio::test]
async fn unanswered_actions_are_repeated_in_the_order_in_which_they_were_sent() {
    let portal = Portal::start(POLICY);
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    let ids: Vec<_> = (0..8).map(|number| format!("r{number}")).collect();
    let mut calls = Vec::new();
    for id in &ids {
        let mut call = support::portal_dev();
        call.current_dir(portal.dir.path())
            .args(["action", "vpn1", "drain", "--request-id", id]);
        calls.push(call.spawn().unwrap());
        assert_eq!(agent.action().await.0, *id);
    }
    drop(agent);
    let mut agent = Agent::connect(&portal).await;
    let mut repeated = Vec::new();
    for _ in &ids {
        repeated.push(agent.action().await.0);
    }
    for id in &ids {
        let result = [("request_id", id.as_str()), ("success", "true")];
        agent
            .event("action_result", &format!("result/{id}"), &result)
            .await;
    }
    let ended =
        tokio::task::spawn_blocking(move || calls.iter_mut().all(|call| call.wait().unwrap().success()));
    assert!(timeout(BOUND, ended).await.unwrap().unwrap());
    assert_eq!(repeated, ids);
}

#[tokio::test]
async fn a_failed_action_and_one_to_an_unknown_agent_have_their_exit_codes() {
    let portal = Portal::start(POLICY);
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    let call = command(&portal, &["action", "vpn1", "reboot", "--request-id", "r1"]);
    let act = async {
        assert_eq!(agent.action().await.0, "r1");
        let result = [("request_id", "r1"), ("success", "false"), ("error", "unknown")];
        agent.event("action_result", "e2", &result).await;
    };
    let (output, ()) = tokio::join!(call, act);
    assert_eq!(output.status.code(), Some(1), "{}", support::stderr(&output));
    let output = command(&portal, &["action", "vpn2", "drain"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(support::stderr(&output).contains("agent vpn2 has no control stream"));
    let output = command(&portal, &["action", "vpn1", "drain", "now"]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn books_that_do_not_balance_have_their_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.jsonl");
    let connect = r#"{"kind":"connect","event_id":"1","session_uid":"a","username":"alice","connected_at":"2026-03-01T12:00:00.000Z"}"#;
    let disconnect = r#"{"kind":"disconnect","event_id":"2","session_uid":"a","username":"alice","disconnected_at":"2026-03-01T12:00:01.000Z"}"#;
    let path = file.to_str().unwrap();
    for (lines, args, code) in [
        (vec![connect], vec![], 1),
        (vec![connect], vec!["--allow-open"], 0),
        (vec![connect, disconnect], vec![], 0),
        (vec![connect, disconnect, disconnect], vec!["--json"], 0),
        (vec![disconnect], vec!["--allow-open"], 1),
    ] {
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let output = support::run(&[vec!["books", path], args].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{lines:?} {}",
            support::stderr(&output)
        );
    }
}

#[tokio::test]
async fn a_restarted_portal_recognizes_the_events_of_the_one_before() {
    let mut portal = Portal::start(POLICY);
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    drop(agent);
    portal.signal("TERM");
    assert_eq!(portal.wait(), Some(0));
    portal.restart();
    let mut agent = Agent::connect(&portal).await;
    agent.acknowledged("e1").await;
    let events = portal.wait_for_events("agent_event", 2).await;
    assert_eq!(events[1]["duplicate"], true);
}
