//! The control stream of an agent that the portal cannot dial, with real ocserv.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Instant;

use serde_json::Value;
use testkit::harness::{fast_reconnect, http_get, is_event_of, lab, wait_for_event};
use testkit::lab::{AgentOptions, Lab, Node};
use testkit::wait::{self, BOUND};

/// An agent without a gRPC server.
fn behind_nat(extra: &str) -> AgentOptions {
    AgentOptions {
        grpc: false,
        ..fast_reconnect(&format!("health.heartbeat_interval = \"200ms\"\n{extra}"))
    }
}

fn agents(lab: &Lab) -> Vec<Value> {
    let json = lab.portal_dev().call_portal(&["agents", "--json"]).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn wait_for_agent(lab: &Lab) -> Value {
    wait::until("the agent's registration", BOUND, || agents(lab).pop()).unwrap()
}

fn count(lab: &Lab, event_type: &str) -> usize {
    let events = lab.portal_dev().events();
    events
        .iter()
        .filter(|event| event["event_type"] == event_type)
        .count()
}

#[test]
fn behind_nat_an_action_of_the_portal_disconnects_a_user() {
    let lab = lab("nat").agent(behind_nat("")).start().unwrap();
    let agent = wait_for_agent(&lab);
    assert_eq!(agent["agent_id"], "lab-agent");
    // The program of another release needs libraries that this machine may not have.
    let version = agent["registration"]["ocserv_version"]
        .as_str()
        .unwrap_or("unknown");
    println!("version of ocserv: {version}");
    assert!(
        lab.portal_dev().call_agent(&["sessions"]).is_err(),
        "it can be dialled"
    );
    let alice = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    wait_for_event(&lab, "connect", "alice");

    let start = Instant::now();
    let action = [
        "action",
        "lab-agent",
        "disconnect_user",
        "username=alice",
        "reason=left",
        "--json",
    ];
    let result = lab.portal_dev().call_portal(&action).unwrap();
    alice.wait_ended(BOUND).unwrap();
    println!(
        "from the call of the action to the end of the client: {:?}",
        start.elapsed()
    );
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["details"]["sessions_disconnected"], "1", "{result}");
    assert_eq!(
        wait_for_event(&lab, "disconnect", "alice")["reason"],
        "admin_forced"
    );
    assert!(bob.is_running());
    wait::until("a heartbeat with one session", BOUND, || {
        let events = lab.portal_dev().events();
        let mut beats = events.iter().filter(|event| event["kind"] == "heartbeat");
        beats
            .any(|beat| beat["ocserv"]["active_sessions"] == 1)
            .then_some(())
    })
    .unwrap();
    lab.agent().wait_for_log("\"request_id\"", BOUND).unwrap();
}

#[test]
fn a_half_open_link_is_found_and_the_agent_registers_again() {
    let keepalive = "portal.keepalive_interval = \"200ms\"\nportal.keepalive_timeout = \"500ms\"";
    let lab = lab("half-open").agent(behind_nat(keepalive)).start().unwrap();
    wait_for_agent(&lab);
    lab.partition(Node::Portal).unwrap();
    lab.agent().wait_for_log("control stream ended", BOUND).unwrap();
    wait::until("the loss of the stream in the metrics", BOUND, || {
        let (_, page) = http_get(&lab, "/metrics").ok()?;
        page.contains("ocserv_agent_control_stream_connected 0")
            .then_some(())
    })
    .unwrap();
    lab.heal(Node::Portal).unwrap();
    wait::until("another registration", BOUND, || {
        (count(&lab, "registered") >= 2).then_some(())
    })
    .unwrap();
    let result = lab
        .portal_dev()
        .call_portal(&["action", "lab-agent", "resync"])
        .unwrap();
    assert!(result.contains("done"), "{result}");
}

#[test]
fn a_killed_portal_gets_the_registration_and_what_it_did_not_acknowledge() {
    let lab = lab("portal-killed").agent(behind_nat("")).start().unwrap();
    wait_for_agent(&lab);
    lab.portal_dev().kill();
    lab.agent().wait_for_log("control stream ended", BOUND).unwrap();
    // An event while there is no portal.
    lab.server().stop().unwrap();
    lab.agent()
        .wait_for_log("ocserv's control socket is unavailable", BOUND)
        .unwrap();
    let options = testkit::lab::PortalOptions {
        policy: testkit::harness::POLICY.to_owned(),
        ..Default::default()
    };
    lab.portal_dev().start(&options).unwrap();
    lab.portal_dev()
        .wait_for_event("ocserv is down", BOUND, |event| {
            event["event_type"] == "ocserv_down"
        })
        .unwrap();
    assert_eq!(count(&lab, "registered"), 2);
    assert!(
        !lab.portal_dev()
            .events()
            .iter()
            .any(|event| is_event_of(event, "connect", "nobody"))
    );
}
