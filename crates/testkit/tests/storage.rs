//! A disk that is full or damaged: logins and disconnects go on, the operator is told, and no
//! revocation is lost that was acknowledged as stored.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use testkit::harness::disk::{Frozen, SMALL, fill, free, mount_ext4, mount_state_dir};
use testkit::harness::{fast_reconnect, http_get, lab, last_decision, log_lines};
use testkit::lab::{IpcRequest, Lab};
use testkit::wait::{self, BOUND};

const FAILED: &str = "decision store does not work: retrying, a restart would lose decisions and revocations";
const RECOVERED: &str = "decision store recovered: everything is written";

const UNUSABLE: &str = "decision store is unusable: replaced by an empty one, what it had of cached decisions and revocations is not used";

/// Disconnects a user and returns the error of the agent's answer.
fn error_of_disconnect(lab: &Lab, user: &str) -> String {
    let answer = lab.portal_dev().call_agent(&["disconnect", user]);
    answer.unwrap_err().to_string()
}

fn store_is(lab: &Lab, up: u8) {
    let line = format!("ocserv_agent_decision_store_up {up}");
    wait::until(&line, BOUND, || {
        let (_, metrics) = http_get(lab, "/metrics").ok()?;
        metrics.lines().any(|shown| shown == line).then_some(())
    })
    .unwrap();
}

#[test]
fn a_full_disk_stops_no_login_is_reported_and_loses_nothing_once_it_has_space() {
    let options = fast_reconnect("");
    let lab = lab("full-disk").agent(options.clone()).start().unwrap();
    let _mounted = mount_state_dir(&lab, SMALL);
    lab.agent().start(&options).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let state_dir = lab.agent().state_dir();
    for user in ["alice", "bob"] {
        IpcRequest::login(user).call(&lab).unwrap();
        assert_eq!(last_decision(&lab, user)["source"], "portal");
    }
    let error = error_of_disconnect(&lab, "bob");
    assert!(!error.contains("decision store"), "{error}");
    store_is(&lab, 1);

    fill(&state_dir);
    let alice = lab.server().connect("alice").unwrap();
    let error = error_of_disconnect(&lab, "alice");
    assert!(error.contains("decision store"), "{error}");
    alice.wait_ended(BOUND).unwrap();
    store_is(&lab, 0);
    let (status, body) = http_get(&lab, "/readyz").unwrap();
    assert!(
        status == 200 && body.contains("decision store"),
        "{status} {body}"
    );
    assert_eq!(log_lines(&lab, FAILED).len(), 1);

    free(&state_dir);
    store_is(&lab, 1);
    // The store of events has a retry of its own.
    wait::until("readiness", BOUND * 2, || {
        (http_get(&lab, "/readyz").unwrap() == (200, "ready\n".to_owned())).then_some(())
    })
    .unwrap();
    assert_eq!(log_lines(&lab, RECOVERED).len(), 1);
    lab.portal_dev().kill();
    lab.agent().kill();
    lab.agent().start(&options).unwrap();
    for user in ["alice", "bob"] {
        let response = IpcRequest::login(user).call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{user}: {response}");
        assert_eq!(last_decision(&lab, user)["source"], "stale");
    }
}

#[test]
fn a_start_on_a_full_disk_damages_nothing() {
    let options = fast_reconnect("");
    let lab = lab("full-at-start").agent(options.clone()).start().unwrap();
    let _mounted = mount_state_dir(&lab, SMALL);
    lab.agent().start(&options).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for user in ["alice", "bob"] {
        IpcRequest::login(user).call(&lab).unwrap();
    }
    error_of_disconnect(&lab, "bob");
    lab.agent().kill();
    lab.portal_dev().kill();
    let state_dir = lab.agent().state_dir();
    fill(&state_dir);
    lab.agent().start(&options).unwrap();
    for (user, allowed) in [("alice", true), ("bob", false)] {
        let response = IpcRequest::login(user).call(&lab).unwrap();
        assert_eq!(response["allowed"], allowed, "{user}: {response}");
        assert_eq!(last_decision(&lab, user)["source"], "stale", "{user}");
    }
    assert!(error_of_disconnect(&lab, "alice").contains("decision store"));
    store_is(&lab, 0);
    lab.agent().kill();
    lab.agent().start(&options).unwrap();
    assert_eq!(log_lines(&lab, UNUSABLE).len(), 0);
    free(&state_dir);
    wait::until("a stored revocation", BOUND, || {
        (!error_of_disconnect(&lab, "alice").contains("decision store")).then_some(())
    })
    .unwrap();
    lab.agent().kill();
    lab.agent().start(&options).unwrap();
    for user in ["alice", "bob"] {
        let response = IpcRequest::login(user).call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{user}: {response}");
        assert_eq!(last_decision(&lab, user)["source"], "stale", "{user}");
    }
    assert_eq!(log_lines(&lab, UNUSABLE).len(), 0);
}

#[test]
fn a_revocation_survives_a_kill_right_after_the_answer() {
    let options = fast_reconnect(r#"sessions.sync_interval = "300ms""#);
    let lab = lab("stored-revocation").agent(options.clone()).start().unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let sessions = ["alice", "bob"].map(|user| lab.server().connect(user).unwrap());
    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    lab.agent().kill();
    lab.agent().start(&options).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    // This one by a validation.
    let policy = "version = 1\ndefault = \"allow\"\n\
                  [[rules]]\nverdict = \"deny\"\nusers = [\"bob\"]\nreason = \"left\"";
    lab.portal_dev().set_policy(policy).unwrap();
    lab.agent().wait_for_log("session revoked", BOUND).unwrap();
    lab.agent().kill();
    lab.portal_dev().kill();
    lab.agent().start(&options).unwrap();
    for user in ["alice", "bob"] {
        let response = IpcRequest::login(user).call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{user}: {response}");
        assert_eq!(last_decision(&lab, user)["source"], "stale", "{user}");
    }
    for session in sessions {
        session.wait_ended(BOUND).unwrap();
    }
}

#[test]
fn a_disk_that_hangs_delays_no_login_and_no_disconnect() {
    let options = fast_reconnect("");
    let lab = lab("hung-disk").agent(options.clone()).start().unwrap();
    let _mounted = mount_ext4(&lab);
    lab.agent().start(&options).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    store_is(&lab, 1);

    let state_dir = lab.agent().state_dir();
    let frozen = Frozen::new(&state_dir);
    let alice = lab.server().connect("alice").unwrap();
    let error = error_of_disconnect(&lab, "alice");
    assert!(error.contains("decision store"), "{error}");
    alice.wait_ended(BOUND).unwrap();
    store_is(&lab, 0);
    lab.server().connect("bob").unwrap();
    drop(frozen);
    store_is(&lab, 1);
    assert_eq!(log_lines(&lab, FAILED).len(), 1);
    assert_eq!(log_lines(&lab, RECOVERED).len(), 1);
    lab.agent().stop().unwrap();
    lab.portal_dev().kill();
    lab.agent().start(&options).unwrap();
    let response = IpcRequest::login("alice").call(&lab).unwrap();
    assert_eq!(response["allowed"], false, "{response}");
    lab.agent().stop().unwrap();
}

#[test]
fn a_damaged_store_is_replaced_and_allows_nobody_in_an_outage() {
    let options = fast_reconnect("");
    let lab = lab("damaged-store").agent(options.clone()).start().unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let database = lab.agent().state_dir().join("decisions.redb");
    IpcRequest::login("alice").call(&lab).unwrap();
    // A revocation that is stored, and with it what was decided before.
    error_of_disconnect(&lab, "mallory");
    let before = fs::read(&database).unwrap();
    IpcRequest::login("bob").call(&lab).unwrap();
    error_of_disconnect(&lab, "bob");
    lab.portal_dev().kill();
    for (content, reason) in [
        (before, "it ends with commit"),
        (Vec::new(), "it is damaged: it is empty"),
    ] {
        lab.agent().kill();
        fs::write(&database, content).unwrap();
        lab.agent().start(&options).unwrap();
        for user in ["alice", "bob"] {
            let response = IpcRequest::login(user).call(&lab).unwrap();
            assert_eq!(response["allowed"], false, "{user}: {response}");
            assert_eq!(last_decision(&lab, user)["source"], "fail_close");
        }
        let unusable = log_lines(&lab, UNUSABLE);
        assert_eq!(unusable.len(), 1);
        let text = unusable[0]["reason"].as_str().unwrap();
        assert!(text.starts_with(reason), "{text}");
    }
}
