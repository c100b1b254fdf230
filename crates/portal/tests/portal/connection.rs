//! Connections that break, and when they are re-established.

use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{OcservId, Username};
use ocserv_agent_proto::vpn::v1::CheckPolicyResponse;
use portal::{CheckError, Portal, Settings};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::calls::event;
use crate::double::Reply;
use crate::log::Log;
use crate::pki::Ca;
use crate::proxy::Mode;
use crate::setup::{Setup, eventually};

/// Delays the second and later retries beyond the test: every attempt after that is requested by a
/// call.
fn retry_only_on_request(settings: &mut Settings) {
    settings.reconnect.initial_delay = Duration::from_millis(50);
    settings.reconnect.max_delay = Duration::from_secs(100_000_000);
    settings.reconnect.multiplier = 1e10;
}

/// Waits until two attempts have failed and the next is far away.
async fn backed_off(setup: &Setup) {
    eventually("two attempts were made", || setup.proxy.connections() >= 2).await;
    let far = async {
        while setup.down("").await < Instant::now() + Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(crate::setup::BOUND, far).await.unwrap();
}

#[tokio::test]
async fn calls_while_disconnected_request_attempts_at_most_once_per_initial_delay() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Refuse, retry_only_on_request).await;
    backed_off(&setup).await;
    let before = setup.proxy.connections();
    // The first calls come too soon after the last attempt and fail at once. Later ones start an
    // attempt each time that initial_delay has passed; a hundred concurrent calls share one.
    let calls = async {
        while setup.proxy.connections() == before {
            let error = setup.check_policy().await.unwrap_err();
            assert!(matches!(error, CheckError::NotConnected(_)), "{error}");
        }
    };
    tokio::time::timeout(crate::setup::BOUND, calls).await.unwrap();
    let after = setup.proxy.connections();
    let calls: Vec<_> = (0..100).map(|_| setup.check_policy()).collect();
    for call in calls {
        call.await.unwrap_err();
    }
    assert!(
        setup.proxy.connections() - after <= 2,
        "calls started {} attempts",
        setup.proxy.connections() - after
    );

    setup.proxy.set(Mode::Forward);
    let calls = async { while setup.check_policy().await.is_err() {} };
    tokio::time::timeout(crate::setup::BOUND, calls).await.unwrap();
}

#[tokio::test]
async fn next_call_after_a_dropped_connection_reconnects() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
        retry_only_on_request(settings);
        settings.reconnect.initial_delay = Duration::from_millis(1);
    })
    .await;
    for round in 0..2 {
        setup.connected().await;
        setup.check_policy().await.unwrap();
        setup.proxy.set(Mode::Refuse);
        setup.down("it closed the connection").await;
        setup.proxy.set(Mode::Forward);
        let calls = async { while setup.check_policy().await.is_err() {} };
        tokio::time::timeout(crate::setup::BOUND, calls)
            .await
            .unwrap_or_else(|_| panic!("round {round}"));
    }
}

#[tokio::test]
async fn call_on_a_connection_that_breaks_is_an_outage() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup.double.set_reply(Reply::Never);
    let cut = async {
        eventually("the portal received the call", || {
            !setup.double.calls().is_empty()
        })
        .await;
        setup.proxy.set(Mode::Refuse);
    };
    let (reply, ()) = tokio::join!(setup.check_policy(), cut);
    let error = reply.unwrap_err();
    assert!(
        matches!(error, CheckError::Transport(_)) && error.is_outage(),
        "{error:?}"
    );
}

#[tokio::test]
async fn portal_that_accepts_and_drops_is_retried_with_backoff() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, retry_only_on_request).await;
    for _ in 0..2 {
        setup.connected().await;
        setup.proxy.set(Mode::Refuse);
        setup.down("").await;
        setup.proxy.set(Mode::Forward);
    }
    // Two short connections: if they counted as success, the next attempt would be due at once.
    let due = setup.down("").await;
    assert!(
        due > Instant::now() + Duration::from_secs(60),
        "due in {:?}",
        due - Instant::now()
    );
}

#[tokio::test]
async fn connection_behind_a_proxy_that_forwards_nothing_is_replaced_after_a_call_timed_out() {
    let (log, _guard) = Log::capture();
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
        settings.timeout = Duration::from_millis(200);
        settings.connect_timeout = Duration::from_millis(500);
    })
    .await;
    setup.connected().await;
    setup.proxy.set(Mode::Stall);
    let before = setup.proxy.connections();
    setup.check_policy().await.unwrap_err();
    eventually("a new connection was tried", || {
        setup.proxy.connections() > before
    })
    .await;
    // It ends at its own timeout and names the stage it reached.
    log.wait_for("TLS handshake not finished within 500ms").await;
    setup.proxy.set(Mode::Forward);
    let calls = async { while setup.check_policy().await.is_err() {} };
    tokio::time::timeout(crate::setup::BOUND, calls).await.unwrap();
}

#[tokio::test]
async fn connection_of_a_slow_portal_that_sends_data_is_kept() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    eventually("both connections", || setup.proxy.connections() == 2).await;
    for _ in 0..3 {
        setup.double.set_reply(Reply::Error(tonic::Code::Unavailable));
        setup.check_policy().await.unwrap_err();
    }
    // A call that is given up early says nothing about the connection.
    setup.double.set_reply(Reply::Never);
    let early = Instant::now() + Duration::from_millis(50);
    setup.check_policy_by(early).await.unwrap_err();
    setup.double.set_reply(Reply::Policy(CheckPolicyResponse {
        allowed: true,
        ..CheckPolicyResponse::default()
    }));
    setup.check_policy().await.unwrap();
    assert_eq!(setup.proxy.connections(), 2);
}

#[tokio::test]
async fn calls_that_hang_leave_the_streams_of_logins_alone() {
    let validate = |portal: Portal| {
        TaskTracker::new().spawn(async move {
            let username = Username::parse("alice").unwrap();
            let id = OcservId::new(42).unwrap();
            portal
                .validate_session(&username, id, None, UNIX_EPOCH)
                .await
                .is_ok()
        })
    };
    let report =
        |portal: Portal| TaskTracker::new().spawn(async move { portal.report_event(&event()).await.is_ok() });
    logins_are_decided_while_calls_hang(validate).await;
    logins_are_decided_while_calls_hang(report).await;
}

/// Makes more calls that hang than the portal of the tests allows on one connection.
async fn logins_are_decided_while_calls_hang(call: impl Fn(Portal) -> JoinHandle<bool>) {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup.double.set_reply(Reply::Never);
    let calls: Vec<_> = (0..8).map(|_| call(setup.portal.clone())).collect();
    eventually("the portal has as many calls as it allows", || {
        setup.double.calls().len() >= crate::double::MAX_STREAMS as usize
    })
    .await;
    setup.double.set_reply(Reply::Policy(CheckPolicyResponse {
        allowed: true,
        ..CheckPolicyResponse::default()
    }));
    assert!(setup.check_policy().await.unwrap().verdict.is_allow());
    assert!(calls.iter().all(|call| !call.is_finished()));
}

#[tokio::test]
async fn refused_tcp_connection_is_reported_and_calls_fail_without_waiting_for_their_deadline() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Refuse, |settings| {
        settings.address = "https://127.0.0.1:1".parse().unwrap();
    })
    .await;
    setup.down("connection refused").await;
    assert_eq!(
        setup.check_policy().await,
        Err(CheckError::NotConnected("connection refused".to_owned()))
    );
}
