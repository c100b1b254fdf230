//! After a disconnect, a user does not reconnect with the cookie of an earlier login. ocserv
//! invalidates the cookie of a connected client; that of a client without a connection it can since
//! 1.4.2, by `terminate session`. With older releases, the portal decides again.

use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Release};
use testkit::harness::{connect_by_cookie, decisions, lab, last_decision, wait_until_empty};
use testkit::lab::{AgentOptions, Lab, OcservVersion, ocserv_version};
use testkit::wait::BOUND;

const DETACHED: &str = "ZR2mUoV7l2Xa7EPA4c1nqqLBX8Q=";

#[test]
fn a_killed_client_does_not_reconnect_with_its_cookie_after_a_disconnect_of_its_user() {
    let lab = lab("killed-cookie").start().unwrap();
    let connect = connect_by_cookie(&lab);
    connect().unwrap().kill();
    wait_until_empty(&lab);
    connect().unwrap().kill();
    wait_until_empty(&lab);
    assert_eq!(last_decision(&lab, "alice")["source"], "cache");

    let disconnect = lab.portal_dev().call_agent(&["disconnect", "alice"]);
    if ocserv_version().unwrap() >= OcservVersion(1, 4, 2) {
        disconnect.unwrap();
        let rejected = connect().unwrap_err();
        assert!(rejected.is_session_denied(), "{rejected}");
        assert_eq!(
            decisions(&lab, "alice").len(),
            2,
            "ocserv rejects the cookie itself"
        );
    } else {
        let error = disconnect.unwrap_err().to_string();
        assert!(error.contains("no session"), "{error}");
        connect().unwrap();
        assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    }
}

#[test]
fn a_disconnected_client_does_not_reconnect_with_its_cookie() {
    let lab = lab("live-cookie").start().unwrap();
    let connect = connect_by_cookie(&lab);
    let client = connect().unwrap();
    lab.wait_for_sessions("alice", 1).unwrap();
    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    client.wait_ended(BOUND).unwrap();
    let rejected = connect().unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    assert_eq!(
        decisions(&lab, "alice").len(),
        1,
        "ocserv rejects the cookie itself"
    );
}

#[test]
fn a_disconnect_also_terminates_the_logins_of_the_user_that_no_connection_uses() {
    let lab = Lab::builder("terminate").start().unwrap();
    let socket = lab.directory().join("newer.sock");
    let ocserv = FakeControl::start(&socket).unwrap();
    ocserv.restart_as(Release::V1_4_2);
    let options = AgentOptions {
        extra: format!("ocserv.occtl_socket = {socket:?}"),
        ..AgentOptions::default()
    };
    lab.agent().start(&options).unwrap();
    let disconnect = |user: &str| lab.portal_dev().call_agent(&["disconnect", user]);
    let terminated = || {
        let terminated = ocserv.terminated().into_iter();
        terminated.map(|login| login.safe_id).collect::<Vec<_>>()
    };

    let alice = FakeSession::connected(7, "alice");
    ocserv.set_sessions(vec![alice.clone()]);
    ocserv.set_logins(vec![
        FakeLogin::detached(DETACHED, "alice"),
        FakeLogin::detached("BBBBBBBBBBBBBBBBBBBBBBBBBBB=", "bob"),
    ]);
    disconnect("alice").unwrap();
    assert!(ocserv.sessions().is_empty());
    assert_eq!(terminated(), [alice.safe_id.as_str(), DETACHED]);

    // bob is not connected, and has a valid cookie.
    disconnect("bob").unwrap();
    assert_eq!(terminated().len(), 3);
    let error = disconnect("bob").unwrap_err().to_string();
    assert!(error.contains("no session"), "{error}");
}
