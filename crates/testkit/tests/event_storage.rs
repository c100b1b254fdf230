//! Events on a disk that is full, read-only, slow or damaged: logins and disconnects go on, the
//! operator is told, and what was reported reaches the portal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::thread;

use testkit::harness::disk::{Frozen, SMALL, fill, free, mount_ext4, mount_state_dir};
use testkit::harness::{POLICY, fast_reconnect, http_get, lab, log_lines, wait_for_event};
use testkit::lab::{IpcRequest, Lab, PortalOptions};
use testkit::wait::{self, BOUND};

const FAILED: &str = "event store does not work: retrying, a restart would lose events";
const RECOVERED: &str = "event store recovered: everything is written";
const UNUSABLE: &str = "the event store is not what this agent last wrote: events may be lost";

fn wait_for_metric(lab: &Lab, line: &str) {
    wait::until(line, BOUND, || {
        let (_, metrics) = http_get(lab, "/metrics").ok()?;
        metrics.lines().any(|shown| shown == line).then_some(())
    })
    .unwrap();
}

fn store_is(lab: &Lab, up: u8) {
    wait_for_metric(lab, &format!("ocserv_agent_event_store_up {up}"));
}

/// Reports the end of a session of `user`, and expects an acknowledgement.
fn report_end(lab: &Lab, user: &str) {
    let response = IpcRequest::login(user).into_disconnect().call(lab).unwrap();
    assert_eq!(response["allowed"], true, "{response}");
}

fn is_decided(lab: &Lab, user: &str) {
    let response = IpcRequest::login(user).call(lab).unwrap();
    assert_eq!(response["allowed"], true, "{response}");
}

/// Checks that a login is answered by an agent that may have lost its last decisions in a kill.
fn is_answered(lab: &Lab, user: &str) {
    let response = IpcRequest::login(user).call(lab).unwrap();
    assert!(response["allowed"].is_boolean(), "{response}");
}

/// Has the portal decide about both users, and stops it.
fn without_portal(lab: &Lab) {
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for user in ["alice", "bob"] {
        wait::until("a decision of the portal", BOUND, || {
            let response = IpcRequest::login(user).call(lab).ok()?;
            (response["allowed"] == true).then_some(())
        })
        .unwrap();
        wait_for_event(lab, "connect", user);
    }
    lab.portal_dev().kill();
}

fn start_portal(lab: &Lab) {
    let options = PortalOptions {
        policy: POLICY.to_owned(),
        ..PortalOptions::default()
    };
    lab.portal_dev().start(&options).unwrap();
}

#[test]
fn events_of_a_full_disk_are_in_memory_and_are_written_once_it_has_space() {
    let options = fast_reconnect("");
    let lab = lab("full-events").agent(options.clone()).start().unwrap();
    let _mounted = mount_state_dir(&lab, SMALL);
    lab.agent().start(&options).unwrap();
    without_portal(&lab);
    store_is(&lab, 1);
    let state_dir = lab.agent().state_dir();
    fill(&state_dir);
    // As many as take more than the file has room for.
    for _ in 0..200 {
        report_end(&lab, "alice");
    }
    wait::until("a failed write", BOUND, || {
        report_end(&lab, "bob");
        let (_, metrics) = http_get(&lab, "/metrics").ok()?;
        metrics.contains("ocserv_agent_event_store_up 0").then_some(())
    })
    .unwrap();
    is_decided(&lab, "alice");
    let (status, body) = http_get(&lab, "/readyz").unwrap();
    assert!(
        status == 200 && body.contains("the event store does not work"),
        "{status} {body}"
    );
    assert_eq!(log_lines(&lab, FAILED).len(), 1);
    free(&state_dir);
    store_is(&lab, 1);
    wait_for_metric(&lab, "ocserv_agent_outbox_unsaved 0");
    assert_eq!(log_lines(&lab, RECOVERED).len(), 1);
    lab.agent().kill();
    start_portal(&lab);
    lab.agent().start(&options).unwrap();
    wait_for_event(&lab, "disconnect", "bob");
    wait_for_metric(&lab, "ocserv_agent_outbox_depth 0");
}

#[test]
fn a_disk_that_becomes_read_only_and_comes_back_loses_no_event() {
    let options = fast_reconnect("");
    let lab = lab("read-only").agent(options.clone()).start().unwrap();
    let mounted = mount_state_dir(&lab, SMALL);
    lab.agent().start(&options).unwrap();
    without_portal(&lab);
    store_is(&lab, 1);
    report_end(&lab, "alice");
    lab.agent().kill();
    mounted.set_read_only();
    lab.agent().start(&options).unwrap();
    report_end(&lab, "bob");
    store_is(&lab, 0);
    is_answered(&lab, "alice");
    mounted.set_writable(&lab);
    store_is(&lab, 1);
    wait_for_metric(&lab, "ocserv_agent_outbox_unsaved 0");
    lab.agent().kill();
    start_portal(&lab);
    lab.agent().start(&options).unwrap();
    for user in ["alice", "bob"] {
        wait_for_event(&lab, "disconnect", user);
    }
}

#[test]
fn a_disk_that_hangs_delays_no_login_and_a_disconnect_until_its_deadline_at_most() {
    let options = fast_reconnect("");
    let lab = lab("hung-events").agent(options.clone()).start().unwrap();
    let _mounted = mount_ext4(&lab);
    lab.agent().start(&options).unwrap();
    without_portal(&lab);
    store_is(&lab, 1);
    let state_dir = lab.agent().state_dir();
    let frozen = Frozen::new(&state_dir);
    thread::scope(|scope| {
        let end = scope.spawn(|| report_end(&lab, "alice"));
        is_decided(&lab, "bob");
        end.join().unwrap();
    });
    store_is(&lab, 0);
    // Answered at once from here on.
    report_end(&lab, "bob");
    drop(frozen);
    store_is(&lab, 1);
    wait_for_metric(&lab, "ocserv_agent_outbox_unsaved 0");
    assert_eq!(log_lines(&lab, FAILED).len(), 1);
    lab.agent().kill();
    start_portal(&lab);
    lab.agent().start(&options).unwrap();
    for user in ["alice", "bob"] {
        wait_for_event(&lab, "disconnect", user);
    }
}

#[test]
fn a_damaged_event_store_is_replaced_and_the_agent_serves() {
    let options = fast_reconnect("");
    let lab = lab("damaged-events").agent(options.clone()).start().unwrap();
    without_portal(&lab);
    report_end(&lab, "alice");
    lab.agent().kill();
    let database = lab.agent().state_dir().join("events.redb");
    fs::write(&database, vec![0xa5; 20_000]).unwrap();
    lab.agent().start(&options).unwrap();
    is_answered(&lab, "bob");
    wait_for_metric(
        &lab,
        "ocserv_agent_event_store_incidents_total{why=\"damaged\"} 1",
    );
    assert_eq!(log_lines(&lab, UNUSABLE).len(), 1);
    store_is(&lab, 1);
    report_end(&lab, "bob");
    start_portal(&lab);
    wait_for_event(&lab, "disconnect", "bob");
}
