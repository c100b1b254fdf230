//! Calls to the portal, and what its replies mean.

use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{
    Connected, DenyCode, Event, EventId, EventKind, OcservId, SessionUid, Source, Username, Verdict,
};
use ocserv_agent_proto::vpn::v1::CheckPolicyResponse;
use portal::{CheckError, Meaning, ReportError};
use tokio::time::Instant;
use tonic::Code;

use crate::double::Reply;
use crate::log::Log;
use crate::pki::Ca;
use crate::proxy::Mode;
use crate::setup::{BOUND, Setup};

async fn setup() -> Setup {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup
}

#[tokio::test]
async fn policy_check_sends_every_field_of_the_login_and_returns_the_verdict() {
    let setup = setup().await;
    assert!(setup.check_policy().await.unwrap().verdict.is_allow());
    setup.double.set_reply(Reply::Policy(CheckPolicyResponse {
        deny_reason: "account disabled".into(),
        ..Default::default()
    }));
    assert_eq!(
        setup.check_policy().await.unwrap().verdict,
        Verdict::deny(DenyCode::Policy, "account disabled")
    );

    let call = setup.double.calls().remove(0);
    let request = call.policy.unwrap();
    assert_eq!(request.vhost, "vpn.example.com");
    assert_eq!((&*request.username, &*request.session_id), ("alice", "42"));
    assert_eq!(
        (&*request.client_ip, &*request.vpn_ip, &*request.device),
        ("192.0.2.1", "10.0.0.7", "vpns0")
    );
    assert_eq!(request.request_time.unwrap().seconds, 1000);
    assert_eq!(call.peer, "agent.test");
    assert!(call.timeout.is_some(), "no grpc-timeout was sent");
}

#[tokio::test]
async fn answer_over_a_limit_is_the_outage_of_one_login_with_one_log_line() {
    let (log, _guard) = Log::capture();
    let setup = setup().await;
    let allow = |routes| {
        Reply::Policy(CheckPolicyResponse {
            allowed: true,
            routes,
            ..Default::default()
        })
    };
    for (count, what) in [(2_001, "2001 routes, more than 2000"), (85_000, "bytes")] {
        setup
            .double
            .set_reply(allow(vec!["not-a-route".to_owned(); count]));
        let error = setup.check_policy().await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::InvalidAnswer, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let mut routes = vec!["not-a-route".to_owned(); 1_999];
    routes.push("10.0.0.0/255.0.0.0".to_owned());
    setup.double.set_reply(allow(routes));
    assert!(setup.check_policy().await.unwrap().verdict.is_allow());
    log.wait_for("1999 invalid routes").await;
    assert_eq!(log.count("WARN"), 3);
    for _ in 0..50 {
        setup.check_policy().await.unwrap();
    }
    assert!(log.count("WARN") < 20, "{} lines", log.count("WARN"));
}

#[tokio::test]
async fn empty_reply_is_the_outage_of_one_login_and_never_an_allow() {
    let setup = setup().await;
    setup
        .double
        .set_reply(Reply::Policy(CheckPolicyResponse::default()));
    let error = setup.check_policy().await.unwrap_err();
    assert_eq!(error.meaning(), Meaning::InvalidAnswer, "{error}");
}

#[tokio::test]
async fn call_to_a_hung_portal_ends_at_the_shorter_of_timeout_and_deadline() {
    let short = Duration::from_millis(50);
    let ca = Ca::new("ca");
    for (timeout, deadline) in [(short, BOUND), (BOUND, short)] {
        let setup = Setup::new(&ca, Mode::Forward, |settings| settings.timeout = timeout).await;
        setup.connected().await;
        setup.double.set_reply(Reply::Never);
        let start = Instant::now();
        let error = setup.check_policy_by(start + deadline).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        assert!(start.elapsed() < BOUND, "it waited for the longer one");
    }
}

#[tokio::test]
async fn expired_deadline_is_a_timeout() {
    let setup = setup().await;
    assert_eq!(
        setup.check_policy_by(Instant::now()).await,
        Err(CheckError::Timeout(Duration::ZERO))
    );
}

#[tokio::test]
async fn call_in_progress_ends_when_the_client_stops_and_leaves_no_task() {
    let setup = setup().await;
    setup.double.set_reply(Reply::Never);
    let call = setup.check_policy();
    let stop = async {
        crate::setup::eventually("the portal received the call", || {
            !setup.double.calls().is_empty()
        })
        .await;
        setup.token.cancel();
    };
    let (reply, ()) = tokio::join!(call, stop);
    assert!(reply.unwrap_err().is_outage());
    setup.client_tasks.close();
    tokio::time::timeout(BOUND, setup.client_tasks.wait())
        .await
        .unwrap();
    assert!(matches!(
        setup.check_policy().await,
        Err(CheckError::NotConnected(_))
    ));
}

#[tokio::test]
async fn session_validation_returns_force_disconnect_and_no_error_is_a_validity() {
    let setup = setup().await;
    let username = Username::parse("alice").unwrap();
    let id = OcservId::new(42).unwrap();
    let validity = setup
        .portal
        .validate_session(&username, id, None, UNIX_EPOCH)
        .await
        .unwrap();
    assert!(validity.force_disconnect && !validity.valid);
    setup.double.set_reply(Reply::Error(Code::PermissionDenied));
    setup
        .portal
        .validate_session(&username, id, None, UNIX_EPOCH)
        .await
        .unwrap_err();
}

pub(crate) fn event() -> Event {
    let kind = EventKind::Connected(Connected {
        at: UNIX_EPOCH,
        client_ip: Some("192.0.2.1".parse().unwrap()),
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
        vhost: None,
        reconciled: None,
        kind,
    }
}

#[tokio::test]
async fn event_is_reported_only_when_the_portal_acknowledges_it() {
    let setup = setup().await;
    setup.double.set_reply(Reply::Acknowledged(true));
    setup.portal.report_event(&event()).await.unwrap();
    let report = setup.double.calls().remove(0).connect.unwrap();
    assert_eq!(report.metadata["event_id"], "a1/42/1000/connect");

    setup.double.set_reply(Reply::Acknowledged(false));
    assert_eq!(
        setup.portal.report_event(&event()).await,
        Err(ReportError::NotAcknowledged("full".into()))
    );
    setup.double.set_reply(Reply::Error(Code::AlreadyExists));
    setup.portal.report_event(&event()).await.unwrap();
    for (code, rejected) in [
        (Code::Unavailable, false),
        (Code::Internal, false),
        (Code::InvalidArgument, true),
    ] {
        setup.double.set_reply(Reply::Error(code));
        assert_eq!(
            setup
                .portal
                .report_event(&event())
                .await
                .unwrap_err()
                .rejects_event(),
            rejected,
            "{code:?}"
        );
    }
}
