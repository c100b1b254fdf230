//! Events over kills, stops and portals that are gone.

use std::collections::BTreeSet;
use std::fs;

use ipc::client::send_request;
use nix::sys::signal::Signal;
use testkit::portal_double::{PortalEvent, Reply};
use testkit::wait::{BOUND, until};
use tonic::Code;

use super::harness::{Harness, request, run};

/// The event IDs that the portal has received, each once.
fn received(harness: &Harness) -> BTreeSet<String> {
    let events = harness.portal.events();
    let ids = events.iter().filter_map(|event| event.metadata("event_id"));
    ids.map(str::to_owned).collect()
}

fn disconnect(harness: &Harness, id: i32) {
    let response = send_request(&harness.socket(), BOUND, &request("disconnect", "alice", id)).unwrap();
    assert!(response.allowed);
}

/// Waits until the portal has received a disconnect of each of these sessions.
fn wait_for_disconnects(harness: &Harness, ids: &(impl Iterator<Item = i32> + Clone)) {
    until("the disconnects", BOUND, || {
        let received = received(harness);
        let is_there = |id: i32| {
            let prefix = format!("a1/{id}/");
            received
                .iter()
                .any(|event| event.starts_with(&prefix) && event.ends_with("/disconnect"))
        };
        ids.clone().all(is_there).then_some(())
    })
    .unwrap();
}

#[test]
fn a_stop_without_a_portal_loses_no_event() {
    let harness = Harness::new();
    let mut agent = harness.start("");
    assert!(harness.login("alice", 1).allowed);
    harness.wait_for_event("a connect", |event| matches!(event, PortalEvent::Connect(_)));
    harness.portal.stop();
    disconnect(&harness, 1);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
    agent.wait_for_log("the rest is left for the next start");
    harness.portal.resume().unwrap();
    let _agent = harness.start("");
    wait_for_disconnects(&harness, &[1].into_iter());
}

#[test]
fn an_acknowledged_report_survives_a_kill_at_once() {
    let harness = Harness::new();
    // Received, and never acknowledged.
    harness.portal.on_event(Reply::Hang);
    let mut id = 0;
    for _ in 0..5 {
        let agent = harness.start("");
        for _ in 0..20 {
            id += 1;
            disconnect(&harness, id);
        }
        drop(agent);
    }
    let hung = harness.portal.events().len();
    harness.portal.on_event(Reply::acknowledge(true));
    let mut agent = harness.start("");
    wait_for_disconnects(&harness, &(1..=id));
    let events = harness.portal.events();
    let order: Vec<i32> = events[hung..]
        .iter()
        .map(|event| event.session_id().parse().unwrap())
        .collect();
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 100, "{order:?}");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
    agent.wait_for_log("all events are delivered");
}

/// Runs `ocserv-agent events`; returns its exit code and its output.
fn events_command(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["events"], arguments].concat();
    let output = run(&arguments, &harness.path("config.toml"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_rejected_event_is_a_dead_letter_that_an_operator_reads_and_sends_again() {
    let harness = Harness::new();
    harness
        .portal
        .on_event(Reply::Status(Code::InvalidArgument, "no such user".to_owned()));
    let agent = harness.start("");
    let list = |arguments: &[&str]| events_command(&harness, arguments);
    assert_eq!(list(&["list"]), (Some(0), "no event is pending\n".to_owned()));
    assert_eq!(list(&["dead"]), (Some(0), "no dead letter\n".to_owned()));
    disconnect(&harness, 1);
    disconnect(&harness, 2);
    // Nobody reported their connects, so each has both events.
    let dead = until("four dead letters", BOUND, || {
        let (code, text) = list(&["dead"]);
        assert_eq!(code, Some(0), "{text}");
        (text.lines().count() == 5).then_some(text)
    })
    .unwrap();
    for part in ["QUEUED", "disconnect", "alice", "a1/1/", "no such user"] {
        assert!(dead.contains(part), "{part} is missing in {dead}");
    }
    agent.wait_for_log("it is in the dead letters");
    assert_eq!(list(&["dead", "--user", "bob"]).1, "no dead letter\n");
    assert_eq!(list(&["list"]).1, "no event is pending\n");
    let (code, text) = list(&["retry", "a1/9/9/disconnect"]);
    assert_eq!(
        (code, text.contains("no dead letter has the event ID")),
        (Some(1), true)
    );

    // A restart keeps them, and sends nothing by itself.
    drop(agent);
    harness.portal.on_event(Reply::acknowledge(true));
    harness.portal.clear_received();
    let _agent = harness.start("");
    let id = dead
        .split_whitespace()
        .find(|word| word.starts_with("a1/1/") && word.ends_with("/disconnect"))
        .unwrap();
    let again = "events that are sent again: 1\n".to_owned();
    assert_eq!(list(&["retry", id]), (Some(0), again));
    wait_for_disconnects(&harness, &[1].into_iter());
    assert_eq!(received(&harness).len(), 1, "the other stays");
    assert_eq!(list(&["retry", "--all"]).0, Some(0));
    wait_for_disconnects(&harness, &(1..=2));
    assert_eq!(list(&["dead"]).1, "no dead letter\n");
    assert_eq!(list(&["retry"]).0, Some(2));
}

#[test]
fn a_second_agent_with_the_same_state_directory_does_not_start() {
    let harness = Harness::new();
    let _agent = harness.start("");
    let config = fs::read_to_string(harness.path("config.toml")).unwrap();
    let other = harness.path("other.toml");
    fs::write(&other, config.replace("run/ipc.sock", "run/other.sock")).unwrap();
    let second = run(&[], &other);
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    let expected = "could not start: state_dir: another agent uses ";
    assert!(error.contains(expected), "{error}");
    assert!(harness.login("alice", 1).allowed, "the first agent serves");
}
