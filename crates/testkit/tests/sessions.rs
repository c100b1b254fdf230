//! The portal's books balance on real ocserv, whatever is killed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::harness::{connect_by_cookie, events_of, http_get, lab, wait_for_event, wait_until_empty};
use testkit::lab::{AgentOptions, Client, ConnectOptions, Lab, LabBuilder, Node};
use testkit::wait::{self, BOUND};

/// Shortest time that a client stays connected while the agent is killed.
const HOLD: Duration = Duration::from_secs(1);

/// An agent that looks at ocserv's list twice a second.
fn options() -> AgentOptions {
    AgentOptions {
        extra: "ocserv.poll_interval = \"500ms\"\nsessions.sync_interval = \"500ms\"\n".to_owned(),
        ..AgentOptions::default()
    }
}

fn quick_lab(name: &str) -> LabBuilder {
    lab(name)
        .server(|server| server.routes.push("10.99.0.0/16".to_owned()))
        .agent(options())
}

fn restart_agent(lab: &Lab) {
    lab.agent().start(&options()).unwrap();
    lab.agent().wait_for_log("ready", BOUND).unwrap();
}

/// Connects alice and sends at least 5,000 bytes; returns once the portal knows of them.
fn connect_with_traffic(lab: &Lab) -> Client {
    let tunnel = ConnectOptions {
        tunnel: true,
        ..ConnectOptions::default()
    };
    let alice = lab.server().connect_with("alice", &tunnel).unwrap();
    let mut upload = lab.command(Node::Client(0), "bash");
    upload.args([
        "-c",
        "for i in 1 2 3 4 5; do printf '%01000d' 0 >/dev/udp/10.99.1.1/9; done",
    ]);
    let has_bytes = |line: &Value| line["stats"]["bytes_received"].as_u64() >= Some(5_000);
    let update = wait::until("update of alice", BOUND, || {
        // Until the route into the tunnel is there, and again for packets that were lost.
        let _sent = upload.status().ok().filter(ExitStatus::success)?;
        let updates = events_of(lab, "session_update", "alice").into_iter();
        updates.rev().find(has_bytes)
    });
    assert_eq!(update.unwrap()["usage"], "sampled");
    alice
}

/// Waits until the agent's events and sessions are on disk.
fn wait_until_stored(lab: &Lab) {
    wait::until("everything on disk", BOUND, || {
        let (_, metrics) = http_get(lab, "/metrics").ok()?;
        metrics
            .contains("\nocserv_agent_outbox_unsaved 0\n")
            .then_some(())
    })
    .unwrap();
}

/// Waits until every session that the portal knows of has exactly one connect and one disconnect in
/// effect; returns how many.
fn wait_for_balance(lab: &Lab) -> usize {
    let uids = |kind: &str| -> BTreeSet<String> {
        let events = lab.portal_dev().events().into_iter();
        let of_kind = events.filter(|line| line["kind"] == kind && line["duplicate"] == false);
        of_kind
            .map(|line| line["session_uid"].as_str().unwrap().to_owned())
            .collect()
    };
    let balanced = wait::until("balanced books", BOUND, || {
        let (connects, disconnects) = (uids("connect"), uids("disconnect"));
        (connects == disconnects).then_some(connects.len())
    });
    balanced.unwrap_or_else(|error| panic!("{error}: {:?} and {:?}", uids("connect"), uids("disconnect")))
}

#[test]
fn sessions_of_an_ocserv_that_was_killed_end_once_it_runs_again() {
    let lab = quick_lab("killed-main").start().unwrap();
    let _alice = lab.server().connect("alice").unwrap();
    let connect = wait_for_event(&lab, "connect", "alice");
    lab.server().kill();
    lab.agent()
        .wait_for_log("control socket is unavailable", BOUND)
        .unwrap();
    assert!(events_of(&lab, "disconnect", "alice").is_empty());
    lab.server().start().unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
    assert_eq!(disconnect["reason"], "server_shutdown");
    assert_eq!(disconnect["reconciled"], true);
    assert!(
        disconnect["time_accuracy_seconds"].as_u64().is_some(),
        "{disconnect}"
    );
    wait_for_balance(&lab);
}

#[test]
fn sessions_of_an_ocserv_that_is_stopped_have_their_last_samples() {
    let lab = quick_lab("stopped").start().unwrap();
    let _alice = connect_with_traffic(&lab);
    lab.server().stop().unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["usage"], "sampled");
    assert!(
        disconnect["stats"]["bytes_received"].as_u64() >= Some(5_000),
        "{disconnect}"
    );
    lab.server().start().unwrap();
    wait_for_balance(&lab);
}

#[test]
fn sessions_of_an_ocserv_that_fails_to_reload_end_once_it_runs_again() {
    let lab = quick_lab("failed-reload").start().unwrap();
    let _alice = lab.server().connect("alice").unwrap();
    wait_for_event(&lab, "connect", "alice");
    let config = fs::read_to_string(lab.server().config()).unwrap();
    fs::write(lab.server().config(), "no such line\n").unwrap();
    lab.server().process().unwrap().signal(Signal::SIGHUP);
    lab.server().process().unwrap().wait_exit(BOUND).unwrap();
    fs::write(lab.server().config(), config).unwrap();
    lab.server().start().unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["reconciled"], true);
    wait_for_balance(&lab);
}

#[test]
fn the_session_of_a_killed_worker_ends_with_its_last_sample() {
    let lab = quick_lab("killed-worker").start().unwrap();
    let _alice = connect_with_traffic(&lab);
    let row = lab.wait_for_sessions("alice", 1).unwrap().remove(0);
    kill(Pid::from_raw(row.id.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_id"], row.id.to_string());
    assert_eq!(disconnect["usage"], "sampled");
    assert!(
        disconnect["stats"]["bytes_received"].as_u64() >= Some(5_000),
        "{disconnect}"
    );
    wait::until("a balance", BOUND, || (wait_for_balance(&lab) >= 1).then_some(())).unwrap();
}

#[test]
fn a_session_that_connected_without_an_agent_is_reported_by_the_next_one() {
    let lab = quick_lab("absent-connect").on_agent_down_allow().start().unwrap();
    lab.agent().kill();
    let alice = lab.server().connect("alice").unwrap();
    let row = lab.wait_for_sessions("alice", 1).unwrap().remove(0);
    restart_agent(&lab);
    let connect = wait_for_event(&lab, "connect", "alice");
    assert_eq!(connect["session_id"], row.id.to_string());
    assert_eq!(connect["reconciled"], true);
    assert_eq!(connect["vpn_ip"], alice.vpn_ip().to_string());
    alice.disconnect(BOUND).unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
    assert_eq!(disconnect["reconciled"], false);
    wait_for_balance(&lab);
}

#[test]
fn a_client_that_roams_has_two_sessions_with_a_beginning_and_an_end_each() {
    let lab = quick_lab("roaming").start().unwrap();
    let connect = connect_by_cookie(&lab);
    let first = connect().unwrap();
    let second = connect().unwrap();
    first.wait_ended(BOUND).unwrap();
    second.disconnect(BOUND).unwrap();
    wait::until("two balanced sessions", BOUND, || {
        (wait_for_balance(&lab) == 2).then_some(())
    })
    .unwrap();
    let addresses: BTreeMap<String, String> = events_of(&lab, "connect", "alice")
        .iter()
        .map(|line| (line["session_uid"].to_string(), line["vpn_ip"].to_string()))
        .collect();
    assert_eq!(addresses.len(), 2);
    assert_eq!(
        addresses.values().collect::<BTreeSet<_>>().len(),
        1,
        "{addresses:?}"
    );
}

#[test]
fn a_portal_that_demands_it_in_an_update_ends_the_session() {
    let lab = quick_lab("demand").start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    wait_for_event(&lab, "session_update", "alice");
    lab.portal_dev()
        .set_policy("version = 1\ndefault = \"allow\"\n[[rules]]\nverdict = \"deny\"\nusers = [\"alice\"]\n")
        .unwrap();
    alice.wait_ended(BOUND).unwrap();
    assert_eq!(
        wait_for_event(&lab, "disconnect", "alice")["reason"],
        "policy_violation"
    );
    assert!(bob.is_running());
}

#[test]
fn a_session_that_ended_without_an_agent_is_ended_by_the_next_one() {
    let lab = quick_lab("absent-end").start().unwrap();
    let alice = connect_with_traffic(&lab);
    let connect = wait_for_event(&lab, "connect", "alice");
    lab.agent().kill();
    alice.disconnect(BOUND).unwrap();
    // The helper waits for an agent that is being restarted.
    let ocserv = lab.server().process().unwrap();
    ocserv.wait_for_log("outcome=not_recorded", BOUND).unwrap();
    restart_agent(&lab);
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
    assert_eq!(disconnect["decision_source"], "portal");
    assert_eq!(disconnect["reconciled"], true);
    assert_eq!(disconnect["usage"], "sampled");
    wait_for_balance(&lab);
}

#[test]
fn an_ocserv_that_was_killed_while_no_agent_ran_leaves_balanced_books() {
    let lab = quick_lab("absent-crash").start().unwrap();
    let _alice = lab.server().connect("alice").unwrap();
    let _bob = lab.server().connect("bob").unwrap();
    wait_for_event(&lab, "connect", "alice");
    wait_for_event(&lab, "connect", "bob");
    wait_until_stored(&lab);
    lab.agent().kill();
    lab.server().kill();
    lab.server().start().unwrap();
    restart_agent(&lab);
    for user in ["alice", "bob"] {
        let disconnect = wait_for_event(&lab, "disconnect", user);
        assert_eq!(disconnect["reason"], "server_shutdown", "{disconnect}");
    }
    assert_eq!(wait_for_balance(&lab), 2);
}

#[test]
fn an_agent_that_is_killed_at_random_instants_leaves_balanced_books() {
    let kills: u32 = 20;
    let lab = quick_lab("random-kills").on_agent_down_allow().start().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = ["alice", "bob"].map(|user| {
            let (lab, is_over) = (&lab, &is_over);
            scope.spawn(move || {
                let mut connected = 0;
                while !is_over.load(Ordering::SeqCst) {
                    // A login in progress at a kill may fail.
                    if let Ok(client) = lab.server().connect(user) {
                        connected += 1;
                        // Longer than the agent is gone: some leave without one, some with one.
                        thread::sleep(HOLD * (connected % 3 + 1));
                        client.disconnect(BOUND).unwrap();
                    }
                }
                connected
            })
        });
        for kill in 0..kills {
            // An instant that differs from kill to kill.
            thread::sleep(Duration::from_millis(u64::from(kill * 7919 % 997)));
            lab.agent().kill();
            restart_agent(&lab);
        }
        is_over.store(true, Ordering::SeqCst);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
    wait_until_empty(&lab);
    wait_for_balance(&lab);
}
