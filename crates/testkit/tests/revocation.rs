//! What the portal takes back, it takes back from live sessions too; what it merely fails to say ends nobody's session.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::thread;
use std::time::Duration;

use ocserv_agent_testkit::lab::Lab;
use ocserv_agent_testkit::portal_double::{PortalDouble, PortalEvent, Reply};
use ocserv_agent_testkit::scene::{decisions, eager, heard, lab, last_decision, wait_for};
use ocserv_agent_testkit::wait::{self, BOUND};
use proto::vpn::v1::{DisconnectReason, ValidateSessionResponse};
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
