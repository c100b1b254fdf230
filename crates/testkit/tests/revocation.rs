//! What the portal takes back, it takes back from live sessions too; what it merely fails to say ends nobody's session.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::thread;
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::{DisconnectReason, ValidateSessionResponse};
use testkit::lab::{AgentOptions, ConnectOptions, Lab, PortalOptions};
use testkit::portal_double::{PortalDouble, PortalEvent, Reply};
use testkit::scene::{POLICY, decisions, eager, heard, lab, last_decision, wait_for};
use testkit::wait::{self, BOUND};
use tonic::Code;

const INTERVAL: Duration = Duration::from_millis(300);
const SYNC: &str = "sessions.sync_interval = \"300ms\"";

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

#[test]
fn a_user_whom_the_policy_no_longer_wants_loses_her_session_and_others_keep_theirs() {
    let lab = lab("revoked").agent(eager(SYNC)).start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    let bob = lab.server().connect("bob").unwrap();
    lab.portal_dev()
        .set_policy(
            "version = 1\ndefault = \"allow\"\n[[rules]]\nverdict = \"deny\"\nusers = [\"alice\"]\nreason = \"left\"",
        )
        .unwrap();
    alice.wait_ended(BOUND).unwrap();
    let end = wait_for(&lab, "disconnect", "alice");
    assert_eq!(end["reason"], "policy_violation", "{end}");
    assert_eq!(
        end["session_uid"],
        wait_for(&lab, "connect", "alice")["session_uid"]
    );
    // Her decision had five minutes to live.
    assert!(lab.server().connect("alice").unwrap_err().is_by_script());
    assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    assert!(bob.is_running());
    lab.wait_for_sessions("bob", 1).unwrap();
    assert!(heard(&lab, "disconnect", "bob").is_empty());
}

#[test]
fn no_outage_of_the_portal_ends_a_session_and_a_clear_word_of_it_does() {
    let lab = Lab::builder("outlives")
        .users(&["alice"])
        .agent(eager(SYNC))
        .start()
        .unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
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
        portal.forget();
        let asked = wait::until(&format!("two questions answered with {what}"), BOUND, || {
            Some(portal.validations()).filter(|asked| asked.len() >= 2)
        });
        let asked = asked.unwrap().remove(0);
        assert_eq!(
            (asked.username.as_str(), asked.session_id.as_str()),
            ("alice", row.id.to_string().as_str())
        );
        assert!(alice.is_running(), "{what}");
    }
    portal.stop();
    // Nobody is there to count: so many intervals pass.
    thread::sleep(4 * INTERVAL);
    assert!(alice.is_running());
    assert_eq!(lab.sessions_of("alice").unwrap().remove(0).id, row.id);

    portal.on_validate(Reply::force_disconnect("left the company"));
    portal.resume().unwrap();
    alice.wait_ended(BOUND).unwrap();
    let end = portal.wait_for_event("her end", BOUND, |event| {
        matches!(event, PortalEvent::Disconnect(end) if end.reason == DisconnectReason::PolicyViolation as i32)
    });
    assert_eq!(end.unwrap().username(), "alice");
}

#[test]
fn a_disconnected_user_who_comes_back_at_once_is_decided_anew() {
    let lab = Lab::builder("anew")
        .users(&["alice", "bob"])
        .agent(eager(""))
        .start()
        .unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
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
    assert!(lab.server().connect("alice").unwrap_err().is_by_script());
    assert_eq!(portal.checks_of("alice").len(), 2);
    assert_eq!(decisions(&lab, "alice").len(), 3);

    bob.disconnect(BOUND).unwrap();
    lab.server().connect("bob").unwrap();
    assert_eq!(portal.checks_of("bob").len(), 1, "others keep their decisions");
}

/// Lets nobody in.
const NOBODY: &str = "version = 1\ndefault = \"deny\"";

#[test]
fn no_outage_lets_in_whom_the_portal_threw_out_and_the_portal_does_once_it_is_back() {
    let open =
        format!("{SYNC}\nresilience.fail_mode = \"open\"\nresilience.circuit_breaker.timeout = \"1s\"");
    let options = AgentOptions {
        portal_timeout: Duration::from_secs(1),
        ..eager(&open)
    };
    let lab = lab("thrown-out").agent(options.clone()).start().unwrap();
    let bob = lab.server().connect("bob").unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();
    lab.portal_dev().call_agent(&["disconnect", "bob"]).unwrap();
    bob.wait_ended(BOUND).unwrap();
    let alice = lab.server().connect("alice").unwrap();
    lab.portal_dev().set_policy(NOBODY).unwrap();
    alice.wait_ended(BOUND).unwrap();
    lab.portal_dev().kill();

    let elsewhere = ConnectOptions {
        over_ipv6: true,
        ..ConnectOptions::default()
    };
    for restarted in [false, true] {
        if restarted {
            lab.agent().stop().unwrap();
            lab.agent().start(&options).unwrap();
        }
        for user in ["alice", "bob"] {
            for from in [&ConnectOptions::default(), &elsewhere] {
                let rejected = lab.server().connect_with(user, from).unwrap_err();
                assert!(rejected.is_by_script(), "{rejected}");
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
        let back = wait::until("a login after the portal came back", BOUND, || {
            lab.server().connect(user).ok()
        });
        back.unwrap();
        assert_eq!(last_decision(&lab, user)["source"], "portal");
    }
}

#[test]
fn a_login_that_was_let_in_and_is_not_up_yet_is_ended_with_the_sessions_of_its_user() {
    let lab = lab("on-the-way").start().unwrap();
    let script = lab.directory().join("connect-script");
    let deployed = fs::read_to_string(&script).unwrap();
    let slow = deployed.replace("exec ", "")
        + "[ $? -eq 0 ] || exit 1\n[ \"$REASON\" = connect ] && sleep 1\nexit 0\n";
    fs::write(&script, slow).unwrap();
    let session = lab.server().connect("alice").unwrap();
    lab.wait_for_sessions("alice", 1).unwrap();
    let bob = lab.server().connect("bob").unwrap();
    let coming = lab.server().begin("alice", &ConnectOptions::default()).unwrap();
    wait::until("an allow on its way", BOUND, || {
        (decisions(&lab, "alice").len() == 2).then_some(())
    })
    .unwrap();

    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap();
    lab.wait_for_sessions("alice", 0).unwrap();
    session.wait_ended(BOUND).unwrap();
    if let Ok(client) = coming.wait(BOUND) {
        client.wait_ended(BOUND).unwrap();
    }
    let ends = wait::until("both ends", BOUND, || {
        Some(heard(&lab, "disconnect", "alice")).filter(|ends| ends.len() == 2)
    });
    for end in ends.unwrap() {
        assert_eq!(end["reason"], "admin_forced", "{end}");
    }
    assert!(bob.is_running());
}
