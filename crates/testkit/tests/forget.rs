//! A user whom the portal disconnects cannot come back on a login that ocserv still remembers. The ocserv of the lab is too
//! old for that, so a double plays one that is not.

use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Release};
use testkit::lab::{AgentOptions, Lab};

const DETACHED: &str = "ZR2mUoV7l2Xa7EPA4c1nqqLBX8Q=";

#[test]
fn a_disconnect_also_forgets_the_logins_of_the_user_that_no_connection_uses() {
    let lab = Lab::builder("forget").start().unwrap();
    let socket = lab.directory().join("newer.sock");
    let ocserv = FakeControl::start(&socket).unwrap();
    ocserv.restart_as(Release::V1_4_2);
    let options = AgentOptions {
        extra: format!("ocserv.occtl_socket = {socket:?}"),
        ..AgentOptions::default()
    };
    lab.agent().start(&options).unwrap();
    let disconnect = |user: &str| lab.portal_dev().call_agent(&["disconnect", user]);
    let forgotten = || {
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
    assert_eq!(forgotten(), [alice.safe_id.as_str(), DETACHED]);

    // Nobody is connected, and bob could still come back.
    disconnect("bob").unwrap();
    assert_eq!(forgotten().len(), 3);
    let said = disconnect("bob").unwrap_err().to_string();
    assert!(said.contains("no session"), "{said}");
}
