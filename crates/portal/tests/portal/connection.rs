//! Connections that break, and how soon there is another.

use std::time::Duration;

use portal::{CheckError, Settings};
use tokio::time::Instant;

use crate::double::Say;
use crate::log::Log;
use crate::pki::Ca;
use crate::proxy::Mode;
use crate::setup::{Setup, eventually};

/// One failure, and the next attempt by itself is out of sight: all that comes is brought about by calls.
fn hardly_ever(settings: &mut Settings) {
    settings.reconnect.initial_delay = Duration::from_millis(50);
    settings.reconnect.max_delay = Duration::from_secs(100_000_000);
    settings.reconnect.multiplier = 1e10;
}

/// Waits until two attempts have failed, after which the client waits for (nearly) ever.
async fn given_up(setup: &Setup) {
    eventually("two attempts were made", || setup.proxy.connections() >= 2).await;
    let far = async {
        while setup.down("").await < Instant::now() + Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(crate::setup::BOUND, far).await.unwrap();
}

#[tokio::test]
async fn calls_while_disconnected_bring_about_attempts_but_not_in_a_row() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Refuse, hardly_ever).await;
    given_up(&setup).await;
    let before = setup.proxy.connections();
    // The first calls come too soon after the last attempt, and fail at once. Later ones make a new attempt each time
    // that initial_delay has passed; a hundred calls at once share one.
    let asking = async {
        while setup.proxy.connections() == before {
            let error = setup.ask().await.unwrap_err();
            assert!(matches!(error, CheckError::NotConnected(_)), "{error}");
        }
    };
    tokio::time::timeout(crate::setup::BOUND, asking).await.unwrap();
    let after = setup.proxy.connections();
    let calls: Vec<_> = (0..100).map(|_| setup.ask()).collect();
    for call in calls {
        call.await.unwrap_err();
    }
    assert!(
        setup.proxy.connections() - after <= 2,
        "calls made {} attempts",
        setup.proxy.connections() - after
    );

    setup.proxy.set(Mode::Forward);
    let asking = async { while setup.ask().await.is_err() {} };
    tokio::time::timeout(crate::setup::BOUND, asking).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_dropped_is_made_anew_by_the_next_call() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
        hardly_ever(settings);
        settings.reconnect.initial_delay = Duration::from_millis(1);
    })
    .await;
    for round in 0..2 {
        setup.connected().await;
        setup.ask().await.unwrap();
        setup.proxy.set(Mode::Refuse);
        setup.down("it closed the connection").await;
        setup.proxy.set(Mode::Forward);
        let asking = async { while setup.ask().await.is_err() {} };
        tokio::time::timeout(crate::setup::BOUND, asking)
            .await
            .unwrap_or_else(|_| panic!("round {round}"));
    }
}

#[tokio::test]
async fn a_call_on_a_connection_that_breaks_is_an_outage() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup.double.say(Say::Nothing);
    let cut = async {
        eventually("the portal was asked", || !setup.double.seen().is_empty()).await;
        setup.proxy.set(Mode::Refuse);
    };
    let (answer, ()) = tokio::join!(setup.ask(), cut);
    let error = answer.unwrap_err();
    assert!(
        matches!(error, CheckError::Transport(_)) && error.is_outage(),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_portal_that_accepts_and_drops_is_not_hammered() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, hardly_ever).await;
    for _ in 0..2 {
        setup.connected().await;
        setup.proxy.set(Mode::Refuse);
        setup.down("").await;
        setup.proxy.set(Mode::Forward);
    }
    // Twice up, twice down: had being up for a moment counted as success, the next attempt would be due at once.
    let due = setup.down("").await;
    assert!(
        due > Instant::now() + Duration::from_secs(60),
        "due in {:?}",
        due - Instant::now()
    );
}

#[tokio::test]
async fn a_portal_that_vanishes_from_the_network_is_noticed_while_idle_and_found_again() {
    let (log, _guard) = Log::capture();
    let setup = Setup::new(&Ca::new("ca"), Mode::Forward, |settings| {
        settings.keepalive_interval = Duration::from_millis(100);
        settings.keepalive_timeout = Duration::from_millis(100);
        settings.connect_timeout = Duration::from_millis(500);
    })
    .await;
    setup.connected().await;
    setup.proxy.set(Mode::Stall);
    log.wait_for("it gave no sign of life within 100ms of being asked")
        .await;
    // While it is away an attempt ends at its own timeout and says how far it came.
    setup.down("no end of the TLS handshake within 500ms").await;
    setup.proxy.set(Mode::Forward);
    setup.connected().await;
    setup.ask().await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_said_so_and_every_call_fails_without_waiting_for_its_deadline() {
    let setup = Setup::new(&Ca::new("ca"), Mode::Refuse, |settings| {
        settings.address = "https://127.0.0.1:1".parse().unwrap();
    })
    .await;
    setup.down("nobody listens there").await;
    assert_eq!(
        setup.ask().await,
        Err(CheckError::NotConnected("nobody listens there".to_owned()))
    );
}
