//! The portal decides a login on real ocserv and receives the session's events.

use testkit::harness::{decisions, events_of, lab, wait_for_event, wait_until_empty};
use testkit::lab::{ConnectOptions, Node};
use testkit::wait::{self, BOUND};

#[test]
fn an_allowed_user_connects_and_the_portal_receives_connect_and_disconnect() {
    let lab = lab("allow").start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let row = lab.wait_for_sessions("alice", 1).unwrap().remove(0);

    let check = wait_for_event(&lab, "check_policy", "alice");
    assert_eq!(check["allowed"], true);
    assert_eq!(check["session_id"], row.id.to_string());
    assert_eq!(check["client_ip"], "10.77.0.2");

    let connect = wait_for_event(&lab, "connect", "alice");
    assert_eq!(connect["session_id"], row.id.to_string());
    assert_eq!(connect["vpn_ip"], alice.vpn_ip().to_string());
    assert_eq!(connect["agent_id"], "lab-agent");
    assert_eq!(connect["decision_source"], "portal");
    assert_eq!(
        (&check["vhost"], &connect["vhost"]),
        (&"default".into(), &"default".into())
    );
    assert!(!connect["connected_at"].is_null());

    alice.disconnect(BOUND).unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
    assert_ne!(disconnect["event_id"], connect["event_id"]);
    assert_eq!(disconnect["vhost"], "default");
    assert_eq!(decisions(&lab, "alice").len(), 1);
    assert_eq!(decisions(&lab, "alice")[0]["outcome"], "allow");
}

#[test]
fn a_disconnect_has_ocservs_byte_counts_and_duration() {
    let lab = lab("bytes")
        .server(|server| server.routes.push("10.99.0.0/16".to_owned()))
        .start()
        .unwrap();
    let alice = lab
        .server()
        .connect_with(
            "alice",
            &ConnectOptions {
                tunnel: true,
                ..Default::default()
            },
        )
        .unwrap();
    // To an unused address behind the VPN: what is sent is counted, no reply is needed.
    let mut upload = lab.command(Node::Client(0), "bash");
    upload.args([
        "-c",
        "for i in 1 2 3 4 5; do printf '%01000d' 0 >/dev/udp/10.99.1.1/9; done",
    ]);
    wait::until("route into the tunnel", BOUND, || {
        upload.status().ok().filter(std::process::ExitStatus::success)
    })
    .unwrap();
    let sessions = || lab.portal_dev().call_agent(&["sessions", "--json"]).ok();
    wait::until("bytes in the session list", BOUND, || {
        let list: serde_json::Value = serde_json::from_str(&sessions()?).ok()?;
        list[0]["bytes_in"].as_u64().filter(|bytes| *bytes >= 5000)
    })
    .unwrap();
    alice.disconnect(BOUND).unwrap();
    let stats = &wait_for_event(&lab, "disconnect", "alice")["stats"];
    assert!(stats["bytes_received"].as_u64().unwrap() >= 5 * 1028, "{stats}");
    assert!(stats["bytes_sent"].as_u64().unwrap() < 5000, "{stats}");
    assert!(stats["duration_seconds"].as_u64().is_some(), "{stats}");
}

#[test]
fn a_denied_user_gets_an_error_and_leaves_neither_session_nor_events() {
    let lab = lab("deny").start().unwrap();
    let rejected = lab.server().connect("mallory").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    assert_eq!(wait_for_event(&lab, "check_policy", "mallory")["allowed"], false);
    wait_until_empty(&lab);
    // Events are delivered in order: any event of mallory's would precede bob's disconnect.
    lab.server().connect("bob").unwrap().disconnect(BOUND).unwrap();
    wait_for_event(&lab, "disconnect", "bob");
    assert_eq!(
        events_of(&lab, "connect", "mallory"),
        Vec::<serde_json::Value>::new()
    );
    assert_eq!(
        events_of(&lab, "disconnect", "mallory"),
        Vec::<serde_json::Value>::new()
    );
    let decision = &decisions(&lab, "mallory")[0];
    assert_eq!(decision["outcome"], "deny");
    assert_eq!(decision["reason"], "the account is suspended");
}

#[test]
fn a_user_restricted_to_routes_is_checked_behind_ocserv_fw() {
    let lab = lab("restricted")
        .server(|server| {
            server.restrict_user_to_routes = true;
            server.routes.push("10.99.0.0/16".to_owned());
        })
        .start()
        .unwrap();
    let alice = lab.server().connect("alice").unwrap();
    assert_eq!(
        wait_for_event(&lab, "connect", "alice")["vpn_ip"],
        alice.vpn_ip().to_string()
    );
    assert!(lab.server().connect("mallory").unwrap_err().is_session_denied());
    alice.disconnect(BOUND).unwrap();
    wait_for_event(&lab, "disconnect", "alice");
}

#[test]
fn a_portal_disconnects_all_sessions_of_one_user_and_no_others() {
    let lab = lab("disconnect").start().unwrap();
    let first = lab.server().connect("alice").unwrap();
    let second = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    lab.wait_for_sessions("alice", 2).unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();

    let list = lab.portal_dev().call_agent(&["sessions", "--json"]).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.len(), 3, "{list:?}");

    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    first.wait_ended(BOUND).unwrap();
    second.wait_ended(BOUND).unwrap();
    lab.wait_for_sessions("alice", 0).unwrap();
    assert!(bob.is_running());
    lab.wait_for_sessions("bob", 1).unwrap();
    let disconnects = wait::until("both disconnects", BOUND, || {
        Some(events_of(&lab, "disconnect", "alice")).filter(|events| events.len() == 2)
    });
    for event in disconnects.unwrap() {
        assert_eq!(event["reason"], "admin_forced", "{event}");
    }
    assert!(lab.portal_dev().call_agent(&["disconnect", "nobody"]).is_err());
}

#[test]
fn connections_before_their_login_are_never_reported_as_sessions() {
    let lab = lab("preauth").start().unwrap();
    let _silent = lab
        .connect_tcp(Node::Client(0), "10.77.0.1:443".parse().unwrap())
        .unwrap();
    wait::until("row of a connection before its login", BOUND, || {
        lab.rows().ok()?.into_iter().find(|row| !row.is_connected())
    })
    .unwrap();
    let list = lab.portal_dev().call_agent(&["sessions", "--json"]).unwrap();
    assert_eq!(list.trim(), "[]");
    let _alice = lab.server().connect("alice").unwrap();
    let list = lab.portal_dev().call_agent(&["sessions", "--json"]).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["username"], "alice");
}

#[test]
fn a_session_keeps_its_uid_over_a_restart_of_the_agent() {
    let lab = lab("restart").start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let connect = wait_for_event(&lab, "connect", "alice");
    lab.agent().kill();
    lab.agent().start(&testkit::lab::AgentOptions::default()).unwrap();
    lab.agent().wait_for_log("ready", BOUND).unwrap();
    alice.disconnect(BOUND).unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
}

#[test]
fn user_names_that_ocserv_accepts_reach_the_portal_unchanged() {
    let name = "u".repeat(63);
    let lab = lab("names")
        .users(&["sp ace", "zoë", "x@y.org", "a\"q", &name])
        .start()
        .unwrap();
    for user in ["sp ace", "zoë", "x@y.org", "a\"q", &name] {
        let client = lab
            .server()
            .connect(user)
            .unwrap_or_else(|error| panic!("{user}: {error}"));
        wait_for_event(&lab, "connect", user);
        let list = lab
            .portal_dev()
            .call_agent(&["sessions", "--json", "--user", user])
            .unwrap();
        let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.len(), 1, "{user}: {list:?}");
        client.disconnect(BOUND).unwrap();
        wait_for_event(&lab, "disconnect", user);
    }
}

#[test]
fn a_client_killed_during_its_login_leaves_no_session() {
    let lab = lab("killed-client").start().unwrap();
    // The portal is stopped, so the connect-script waits.
    lab.portal_dev()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGSTOP);
    let connecting = lab
        .server()
        .start_client("alice", &ConnectOptions::default())
        .unwrap();
    wait::until("running connect-script", BOUND, || {
        lab.rows().ok()?.into_iter().find(|row| row.username == "alice")
    })
    .unwrap();
    connecting.kill();
    lab.portal_dev()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGCONT);
    wait_until_empty(&lab);
    lab.server().connect("bob").unwrap().disconnect(BOUND).unwrap();
    wait_for_event(&lab, "disconnect", "bob");
    let connects = events_of(&lab, "connect", "alice").len();
    let disconnects = events_of(&lab, "disconnect", "alice").len();
    assert_eq!(connects, disconnects, "every connect has its disconnect");
}
