//! A login on real ocserv is decided by the portal, and the portal hears what came of it.

use testkit::lab::{ConnectOptions, Place};
use testkit::scene::{decisions, heard, lab, wait_for, wait_for_nobody};
use testkit::wait::{self, BOUND};

#[test]
fn an_allowed_user_gets_in_and_the_portal_learns_when_the_session_began_and_ended() {
    let lab = lab("allow").start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let row = lab.wait_for_sessions("alice", 1).unwrap().remove(0);

    let asked = wait_for(&lab, "check_policy", "alice");
    assert_eq!(asked["allowed"], true);
    assert_eq!(asked["session_id"], row.id.to_string());
    assert_eq!(asked["client_ip"], "10.77.0.2");

    let connect = wait_for(&lab, "connect", "alice");
    assert_eq!(connect["session_id"], row.id.to_string());
    assert_eq!(connect["vpn_ip"], alice.vpn_ip().to_string());
    assert_eq!(connect["agent_id"], "lab-agent");
    assert_eq!(connect["decision_source"], "portal");
    assert!(!connect["connected_at"].is_null());

    alice.disconnect(BOUND).unwrap();
    let disconnect = wait_for(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
    assert_ne!(disconnect["event_id"], connect["event_id"]);
    assert_eq!(decisions(&lab, "alice").len(), 1);
    assert_eq!(decisions(&lab, "alice")[0]["outcome"], "allow");
}

#[test]
fn the_end_of_a_session_bears_ocservs_byte_counts_and_duration() {
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
    // To an address behind the VPN that nobody has: what is sent counts, an answer is not needed.
    let mut upload = lab.command(Place::Client(0), "bash");
    upload.args([
        "-c",
        "for i in 1 2 3 4 5; do printf '%01000d' 0 >/dev/udp/10.99.1.1/9; done",
    ]);
    wait::until("a route into the tunnel", BOUND, || {
        upload.status().ok().filter(std::process::ExitStatus::success)
    })
    .unwrap();
    let sessions = || lab.portal_dev().call_agent(&["sessions", "--json"]).ok();
    wait::until("the bytes in the session list", BOUND, || {
        let list: serde_json::Value = serde_json::from_str(&sessions()?).ok()?;
        list[0]["bytes_in"].as_u64().filter(|bytes| *bytes >= 5000)
    })
    .unwrap();
    alice.disconnect(BOUND).unwrap();
    let stats = &wait_for(&lab, "disconnect", "alice")["stats"];
    assert!(stats["bytes_received"].as_u64().unwrap() >= 5 * 1028, "{stats}");
    assert!(stats["bytes_sent"].as_u64().unwrap() < 5000, "{stats}");
    assert!(stats["duration_seconds"].as_u64().is_some(), "{stats}");
}

#[test]
fn a_denied_user_is_told_no_leaves_no_session_and_no_events() {
    let lab = lab("deny").start().unwrap();
    let rejected = lab.server().connect("mallory").unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    assert_eq!(wait_for(&lab, "check_policy", "mallory")["allowed"], false);
    wait_for_nobody(&lab);
    // Events travel in order: once bob's end is here, anything of mallory's would be, too.
    lab.server().connect("bob").unwrap().disconnect(BOUND).unwrap();
    wait_for(&lab, "disconnect", "bob");
    assert_eq!(heard(&lab, "connect", "mallory"), Vec::<serde_json::Value>::new());
    assert_eq!(
        heard(&lab, "disconnect", "mallory"),
        Vec::<serde_json::Value>::new()
    );
    let decision = &decisions(&lab, "mallory")[0];
    assert_eq!(decision["outcome"], "deny");
    assert_eq!(decision["reason"], "the account is suspended");
}

#[test]
fn a_user_restricted_to_routes_is_decided_through_ocserv_fw_as_well() {
    let lab = lab("restricted")
        .server(|server| {
            server.restrict_user_to_routes = true;
            server.routes.push("10.99.0.0/16".to_owned());
        })
        .start()
        .unwrap();
    let alice = lab.server().connect("alice").unwrap();
    assert_eq!(
        wait_for(&lab, "connect", "alice")["vpn_ip"],
        alice.vpn_ip().to_string()
    );
    assert!(lab.server().connect("mallory").unwrap_err().is_by_script());
    alice.disconnect(BOUND).unwrap();
    wait_for(&lab, "disconnect", "alice");
}

#[test]
fn a_portal_ends_all_sessions_of_one_user_and_no_others() {
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
    let ends = wait::until("both ends", BOUND, || {
        Some(heard(&lab, "disconnect", "alice")).filter(|ends| ends.len() == 2)
    });
    for end in ends.unwrap() {
        assert_eq!(end["reason"], "admin_forced", "{end}");
    }
    assert!(lab.portal_dev().call_agent(&["disconnect", "nobody"]).is_err());
}

#[test]
fn connections_before_their_login_are_never_reported_as_sessions() {
    let lab = lab("preauth").start().unwrap();
    let _silent = lab
        .connect_tcp(Place::Client(0), "10.77.0.1:443".parse().unwrap())
        .unwrap();
    wait::until("a row of a connection before its login", BOUND, || {
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
fn a_session_keeps_its_name_over_a_restart_of_the_agent() {
    let lab = lab("restart").start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let connect = wait_for(&lab, "connect", "alice");
    lab.agent().kill();
    lab.agent().start(&testkit::lab::AgentOptions::default()).unwrap();
    lab.agent().wait_for_log("ready", BOUND).unwrap();
    alice.disconnect(BOUND).unwrap();
    let disconnect = wait_for(&lab, "disconnect", "alice");
    assert_eq!(disconnect["session_uid"], connect["session_uid"]);
}

#[test]
fn names_with_spaces_and_other_bytes_that_ocserv_takes_reach_the_portal_unchanged() {
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
        wait_for(&lab, "connect", user);
        let list = lab
            .portal_dev()
            .call_agent(&["sessions", "--json", "--user", user])
            .unwrap();
        let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.len(), 1, "{user}: {list:?}");
        client.disconnect(BOUND).unwrap();
        wait_for(&lab, "disconnect", user);
    }
}

#[test]
fn a_client_that_vanishes_while_its_login_is_decided_leaves_nothing_that_does_not_end() {
    let lab = lab("vanish").start().unwrap();
    // The portal stands still, so the connect-script waits.
    lab.portal_dev()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGSTOP);
    let waiting = lab.server().begin("alice", &ConnectOptions::default()).unwrap();
    wait::until("a running connect-script", BOUND, || {
        lab.rows().ok()?.into_iter().find(|row| row.username == "alice")
    })
    .unwrap();
    waiting.vanish();
    lab.portal_dev()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGCONT);
    wait_for_nobody(&lab);
    lab.server().connect("bob").unwrap().disconnect(BOUND).unwrap();
    wait_for(&lab, "disconnect", "bob");
    let begun = heard(&lab, "connect", "alice").len();
    let ended = heard(&lab, "disconnect", "alice").len();
    assert_eq!(begun, ended, "every beginning that is told has its end");
}
