//! A revocation by the portal ends live sessions; an outage of the portal ends none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ocserv_agent_proto::vpn::v1::{DisconnectReason, ValidateSessionResponse};
use testkit::harness::{
    POLICY, decisions, events_of, fast_reconnect, http_get, lab, last_decision, wait_for_event,
    wait_until_empty,
};
use testkit::lab::{AgentOptions, Client, ConnectOptions, Lab, PortalOptions};
use testkit::portal_double::{PortalDouble, PortalEvent, Reply};
use testkit::wait::{self, BOUND};
use tonic::Code;

const INTERVAL: Duration = Duration::from_millis(300);
const SYNC: &str = "sessions.sync_interval = \"300ms\"";

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

/// A lab whose agent is connected to a portal double.
fn with_double(name: &str, users: &[&str], settings: &str) -> (Lab, PortalDouble) {
    let builder = Lab::builder(name).users(users).agent(fast_reconnect(settings));
    let lab = builder.start().unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    (lab, portal)
}

#[test]
fn a_user_denied_by_a_new_policy_is_disconnected_and_other_users_are_not() {
    let lab = lab("revoked").agent(fast_reconnect(SYNC)).start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    lab.portal_dev()
        .set_policy(
            "version = 1\ndefault = \"allow\"\n[[rules]]\nverdict = \"deny\"\nusers = [\"alice\"]\nreason = \"left\"",
        )
        .unwrap();
    alice.wait_ended(BOUND).unwrap();
    let disconnect = wait_for_event(&lab, "disconnect", "alice");
    assert_eq!(disconnect["reason"], "policy_violation", "{disconnect}");
    assert_eq!(
        disconnect["session_uid"],
        wait_for_event(&lab, "connect", "alice")["session_uid"]
    );
    // The cached decision would have been fresh for five minutes.
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    assert!(bob.is_running());
    lab.wait_for_sessions("bob", 1).unwrap();
    assert!(events_of(&lab, "disconnect", "bob").is_empty());
}

#[test]
fn an_outage_of_the_portal_ends_no_session_and_a_revocation_does() {
    let (lab, portal) = with_double("no-verdict", &["alice"], SYNC);
    let alice = lab.server().connect("alice").unwrap();
    let row = lab.wait_for_sessions("alice", 1).unwrap().remove(0);
    let contradiction = ValidateSessionResponse {
        valid: true,
        force_disconnect: true,
        ..ValidateSessionResponse::default()
    };
    for reply in [
        Reply::code(Code::Unavailable),
        Reply::code(Code::Internal),
        Reply::code(Code::NotFound),
        Reply::code(Code::PermissionDenied),
        Reply::NoMessage,
        Reply::Bytes(vec![0xff; 9]),
        Reply::Torn(vec![8, 0, 24, 1]),
        Reply::Message(ValidateSessionResponse::default()),
        Reply::Message(contradiction),
        Reply::CloseConnection,
        Reply::Hang,
    ] {
        let what = format!("{reply:?}");
        portal.on_validate(reply);
        portal.clear_received();
        let validations = wait::until(&format!("two validations with {what}"), BOUND, || {
            Some(portal.validations()).filter(|validations| validations.len() >= 2)
        });
        let validation = validations.unwrap().remove(0);
        assert_eq!(
            (validation.username.as_str(), validation.session_id.as_str()),
            ("alice", row.id.to_string().as_str())
        );
        assert!(alice.is_running(), "{what}");
    }
    portal.stop();
    // Nothing observable happens: wait for several intervals.
    thread::sleep(4 * INTERVAL);
    assert!(alice.is_running());
    assert_eq!(lab.sessions_of("alice").unwrap().remove(0).id, row.id);

    portal.on_validate(Reply::force_disconnect("left the company"));
    portal.resume().unwrap();
    alice.wait_ended(BOUND).unwrap();
    let event = portal.wait_for_event("disconnect of alice", BOUND, |event| {
        matches!(event, PortalEvent::Disconnect(disconnect) if disconnect.reason == DisconnectReason::PolicyViolation as i32)
    });
    assert_eq!(event.unwrap().username(), "alice");
}

#[test]
fn a_disconnected_user_who_reconnects_at_once_is_checked_again() {
    let (lab, portal) = with_double("reconnect", &["alice", "bob"], "");
    let first = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    let second = lab.server().connect("alice").unwrap();
    assert_eq!(portal.checks_of("alice").len(), 1);
    lab.wait_for_sessions("alice", 2).unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();

    portal.on_check_of("alice", Reply::deny("not any more"));
    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    first.wait_ended(BOUND).unwrap();
    second.wait_ended(BOUND).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    assert_eq!(portal.checks_of("alice").len(), 2);
    assert_eq!(decisions(&lab, "alice").len(), 3);

    bob.disconnect(BOUND).unwrap();
    lab.server().connect("bob").unwrap();
    assert_eq!(
        portal.checks_of("bob").len(),
        1,
        "cached decisions of other users stay"
    );
}

#[test]
fn a_deny_with_should_disconnect_ends_the_sessions_of_the_user_and_of_no_other() {
    let (lab, portal) = with_double("should-disconnect", &["alice", "bob"], "");
    portal.on_check(Reply::allow_for(Duration::ZERO));
    let sessions = [
        lab.server().connect("alice").unwrap(),
        lab.server().connect("alice").unwrap(),
    ];
    let bob = lab.server().connect("bob").unwrap();
    lab.wait_for_sessions("alice", 2).unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();

    // A contradiction denies the login in every mode and ends no session.
    portal.on_check_of("alice", Reply::contradictory());
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    assert!(sessions.iter().all(Client::is_running));

    portal.on_check_of("alice", Reply::deny_and_disconnect("left the company"));
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    for session in sessions {
        session.wait_ended(BOUND).unwrap();
        let event = portal.wait_for_event("disconnect of alice", BOUND, |event| {
            matches!(event, PortalEvent::Disconnect(disconnect) if disconnect.reason == DisconnectReason::PolicyViolation as i32)
        });
        assert_eq!(event.unwrap().username(), "alice");
    }
    assert!(bob.is_running());
    // Denied in an outage, from any address.
    portal.stop();
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "alice")["source"], "stale");
    assert!(bob.is_running());
}

/// Denies every user.
const DENY_ALL: &str = "version = 1\ndefault = \"deny\"";

#[test]
fn a_revoked_user_stays_denied_in_an_outage_and_is_allowed_by_the_portal_after_it() {
    let open =
        format!("{SYNC}\nresilience.fail_mode = \"open\"\nresilience.circuit_breaker.timeout = \"1s\"");
    let options = AgentOptions {
        portal_timeout: Duration::from_secs(1),
        ..fast_reconnect(&open)
    };
    let lab = lab("revoked-outage").agent(options.clone()).start().unwrap();
    let bob = lab.server().connect("bob").unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();
    lab.portal_dev().call_agent(&["disconnect", "bob"]).unwrap();
    bob.wait_ended(BOUND).unwrap();
    let alice = lab.server().connect("alice").unwrap();
    lab.portal_dev().set_policy(DENY_ALL).unwrap();
    alice.wait_ended(BOUND).unwrap();
    lab.portal_dev().kill();

    let other_address = ConnectOptions {
        over_ipv6: true,
        ..ConnectOptions::default()
    };
    for restarted in [false, true] {
        if restarted {
            lab.agent().stop().unwrap();
            lab.agent().start(&options).unwrap();
        }
        for user in ["alice", "bob"] {
            for from in [&ConnectOptions::default(), &other_address] {
                let rejected = lab.server().connect_with(user, from).unwrap_err();
                assert!(rejected.is_session_denied(), "{rejected}");
                let decision = last_decision(&lab, user);
                assert_eq!(decision["source"], "stale", "{decision}");
                assert_eq!(decision["deny_code"], "policy", "{decision}");
            }
        }
    }
    lab.server().connect("mallory").unwrap();
    assert_eq!(last_decision(&lab, "mallory")["source"], "fail_open");

    let policy = PortalOptions {
        policy: POLICY.to_owned(),
        ..PortalOptions::default()
    };
    lab.portal_dev().start(&policy).unwrap();
    for user in ["alice", "bob"] {
        let login = wait::until("login after the restart of the portal", BOUND, || {
            lab.server().connect(user).ok()
        });
        login.unwrap();
        assert_eq!(last_decision(&lab, user)["source"], "portal");
    }
}

#[test]
fn a_disconnect_also_ends_an_allowed_login_that_is_not_connected_yet() {
    let lab = lab("connecting").start().unwrap();
    let script = lab.directory().join("connect-script");
    let deployed = fs::read_to_string(&script).unwrap();
    let slow = deployed.replace("exec ", "")
        + "[ $? -eq 0 ] || exit 1\n[ \"$REASON\" = connect ] && sleep 1\nexit 0\n";
    fs::write(&script, slow).unwrap();
    let session = lab.server().connect("alice").unwrap();
    lab.wait_for_sessions("alice", 1).unwrap();
    let bob = lab.server().connect("bob").unwrap();
    let connecting = lab
        .server()
        .start_client("alice", &ConnectOptions::default())
        .unwrap();
    wait::until("second allow", BOUND, || {
        (decisions(&lab, "alice").len() == 2).then_some(())
    })
    .unwrap();

    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    lab.wait_for_sessions("alice", 0).unwrap();
    session.wait_ended(BOUND).unwrap();
    if let Ok(client) = connecting.wait(BOUND) {
        client.wait_ended(BOUND).unwrap();
    }
    let disconnects = wait::until("both disconnects", BOUND, || {
        Some(events_of(&lab, "disconnect", "alice")).filter(|events| events.len() == 2)
    });
    for event in disconnects.unwrap() {
        assert_eq!(event["reason"], "admin_forced", "{event}");
    }
    assert!(bob.is_running());
}

/// The requests for ocserv's list of connections so far.
fn lists(lab: &Lab) -> f64 {
    let (_, text) = http_get(lab, "/metrics").unwrap();
    let metric = "ocserv_agent_occtl_requests_total{command=\"list\",status=\"answered\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(metric));
    value.unwrap().parse().unwrap()
}

#[test]
fn sessions_revoked_at_once_all_end_and_share_requests_to_ocserv() {
    let users: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let lab = lab("mass")
        .users(&names)
        .agent(fast_reconnect(SYNC))
        .start()
        .unwrap();
    let connect = |user: &&str| lab.server().connect(user).unwrap();
    let clients: Vec<_> = names.iter().map(connect).collect();
    let (before, start) = (lists(&lab), Instant::now());
    lab.portal_dev()
        .set_policy("version = 1\ndefault = \"deny\"")
        .unwrap();
    for client in clients {
        client.wait_ended(BOUND).unwrap();
    }
    wait_until_empty(&lab);
    let (lists, elapsed) = (lists(&lab) - before, start.elapsed().as_secs_f64());
    assert!(lists <= elapsed * 5.0 + 2.0, "{lists} lists in {elapsed} s");
    for user in names {
        let disconnect = wait_for_event(&lab, "disconnect", user);
        assert_eq!(disconnect["reason"], "policy_violation", "{disconnect}");
    }
}
