//! Connections that break, and when they are re-established.

use std::time::Duration;

use portal::{CheckError, Settings};
use tokio::time::Instant;

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
async fn unreachable_portal_is_detected_while_idle_and_reconnected() {
    let (log, _guard) = Log::capture();
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
        settings.keepalive_interval = Duration::from_millis(100);
        settings.keepalive_timeout = Duration::from_millis(100);
        settings.connect_timeout = Duration::from_millis(500);
    })
    .await;
    setup.connected().await;
    setup.proxy.set(Mode::Stall);
    log.wait_for("no answer to an HTTP/2 keepalive ping within 100ms")
        .await;
    // An attempt meanwhile ends at its own timeout and names the stage it reached.
    setup.down("TLS handshake not finished within 500ms").await;
    setup.proxy.set(Mode::Forward);
    setup.connected().await;
    setup.check_policy().await.unwrap();
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
