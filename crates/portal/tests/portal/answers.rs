//! What the portal says, and what becomes of it.

use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{
    Connected, DenyCode, Event, EventId, EventKind, OcservId, SessionUid, Source, Username, Verdict,
};
use ocserv_agent_proto::vpn::v1::CheckPolicyResponse;
use portal::{CheckError, DeliverError};
use tokio::time::Instant;
use tonic::Code;

use crate::double::Say;
use crate::pki::Ca;
use crate::proxy::Mode;
use crate::setup::{BOUND, Setup};

async fn setup() -> Setup {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup
}

#[tokio::test]
async fn a_login_is_asked_about_with_all_that_is_known_and_answered() {
    let setup = setup().await;
    assert!(setup.ask().await.unwrap().verdict.is_allow());
    setup.double.say(Say::Policy(CheckPolicyResponse {
        deny_reason: "left".into(),
        ..Default::default()
    }));
    assert_eq!(
        setup.ask().await.unwrap().verdict,
        Verdict::deny(DenyCode::Policy, "left")
    );

    let seen = setup.double.seen().remove(0);
    let request = seen.policy.unwrap();
    assert_eq!((&*request.username, &*request.session_id), ("alice", "42"));
    assert_eq!(
        (&*request.client_ip, &*request.vpn_ip, &*request.device),
        ("192.0.2.1", "10.0.0.7", "vpns0")
    );
    assert_eq!(request.request_time.unwrap().seconds, 1000);
    assert_eq!(seen.peer, "agent.test");
    assert!(seen.timeout.is_some(), "the portal was not told how long it has");
}

#[tokio::test]
async fn each_code_on_the_wire_keeps_its_meaning() {
    let setup = setup().await;
    for number in 1..17 {
        let code = Code::from(number);
        setup.double.say(Say::Error(code));
        let error = setup.ask().await.unwrap_err();
        assert_eq!(
            error,
            CheckError::Refused {
                code,
                message: "because of this".into()
            }
        );
        let denied = matches!(
            code,
            Code::InvalidArgument | Code::NotFound | Code::PermissionDenied
        );
        assert_eq!(error.is_outage(), !denied, "{code:?}");
    }
    // Success without a message is no answer.
    setup.double.say(Say::Error(Code::Ok));
    assert!(setup.ask().await.unwrap_err().is_outage());
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_outage() {
    let setup = setup().await;
    let deny_reason = "x".repeat(1 << 20);
    setup.double.say(Say::Policy(CheckPolicyResponse {
        deny_reason,
        ..Default::default()
    }));
    assert!(setup.ask().await.unwrap_err().is_outage());
}

#[tokio::test]
async fn an_empty_answer_is_an_outage_and_never_an_allow() {
    let setup = setup().await;
    setup.double.say(Say::Policy(CheckPolicyResponse::default()));
    let error = setup.ask().await.unwrap_err();
    assert!(
        matches!(error, CheckError::Nonsense(_)) && error.is_outage(),
        "{error}"
    );
}

#[tokio::test]
async fn a_portal_that_hangs_costs_no_more_than_the_shorter_of_timeout_and_deadline() {
    let short = Duration::from_millis(50);
    let ca = Ca::new("ca");
    for (timeout, deadline) in [(short, BOUND), (BOUND, short)] {
        let setup = Setup::new(&ca, Mode::Forward, |settings| settings.timeout = timeout).await;
        setup.connected().await;
        setup.double.say(Say::Nothing);
        let start = Instant::now();
        let error = setup.ask_by(start + deadline).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        assert!(start.elapsed() < BOUND, "it waited for the longer one");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_a_timeout() {
    let setup = setup().await;
    assert_eq!(
        setup.ask_by(Instant::now()).await,
        Err(CheckError::Timeout(Duration::ZERO))
    );
}

#[tokio::test]
async fn a_call_under_way_ends_when_the_client_stops_and_leaves_no_task() {
    let setup = setup().await;
    setup.double.say(Say::Nothing);
    let ask = setup.ask();
    let stop = async {
        crate::setup::eventually("the portal was asked", || !setup.double.seen().is_empty()).await;
        setup.token.cancel();
    };
    let (answer, ()) = tokio::join!(ask, stop);
    assert!(answer.unwrap_err().is_outage());
    setup.client_tasks.close();
    tokio::time::timeout(BOUND, setup.client_tasks.wait())
        .await
        .unwrap();
    assert!(matches!(setup.ask().await, Err(CheckError::NotConnected(_))));
}

#[tokio::test]
async fn a_session_that_must_end_is_said_to_end() {
    let setup = setup().await;
    let username = Username::parse("alice").unwrap();
    let id = OcservId::new(42).unwrap();
    let validity = setup
        .portal
        .validate_session(&username, id, None, UNIX_EPOCH)
        .await
        .unwrap();
    assert!(validity.force_disconnect && !validity.valid);
    setup.double.say(Say::Error(Code::PermissionDenied));
    setup
        .portal
        .validate_session(&username, id, None, UNIX_EPOCH)
        .await
        .unwrap_err();
}

fn event() -> Event {
    let kind = EventKind::Connected(Connected {
        at: UNIX_EPOCH,
        client_ip: "192.0.2.1".parse().unwrap(),
        vpn_ip: None,
        device: "vpns0".into(),
        group: None,
    });
    let id = OcservId::new(42).unwrap();
    let uid = SessionUid::new("a1", id, 1000);
    Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: Some(Source::Portal),
        kind,
    }
}

#[tokio::test]
async fn an_event_is_delivered_only_when_the_portal_says_it_has_it() {
    let setup = setup().await;
    setup.double.say(Say::Taken(true));
    setup.portal.deliver(&event()).await.unwrap();
    let report = setup.double.seen().remove(0).connect.unwrap();
    assert_eq!(report.metadata["event_id"], "a1/42/1000/connect");

    setup.double.say(Say::Taken(false));
    assert_eq!(
        setup.portal.deliver(&event()).await,
        Err(DeliverError::NotAcknowledged("full".into()))
    );
    setup.double.say(Say::Error(Code::AlreadyExists));
    setup.portal.deliver(&event()).await.unwrap();
    for (code, hopeless) in [
        (Code::Unavailable, false),
        (Code::Internal, false),
        (Code::InvalidArgument, true),
    ] {
        setup.double.say(Say::Error(code));
        assert_eq!(
            setup
                .portal
                .deliver(&event())
                .await
                .unwrap_err()
                .is_about_the_event(),
            hopeless,
            "{code:?}"
        );
    }
}
