//! Certificate verification in both directions, and certificate rotation.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use portal::{ConnectionState, Portal};
use tls::ClientTls;

use crate::log::Log;
use crate::pki::{Ca, Files};
use crate::proxy::Mode;
use crate::setup::{BOUND, Setup, eventually, settings};

#[tokio::test]
async fn portal_of_a_foreign_ca_is_refused_and_logged_once() {
    let (log, _guard) = Log::capture();
    let (ca, foreign) = (Ca::new("ca"), Ca::new("foreign"));
    let files = Files::new(&ca, &ca, "agent.test");
    let setup = Setup::with(&foreign, &ca, files, Mode::Forward, |_| {}).await;
    let reason = "its certificate was issued by a CA we do not trust";
    setup.down(reason).await;
    assert!(setup.check_policy().await.unwrap_err().is_outage());
    eventually("the client retried", || setup.proxy.connections() >= 4).await;
    assert_eq!(log.count("portal not connected, next attempt in"), 1);
    assert_eq!(log.count("WARN portal"), 1);
    assert_eq!(log.count(reason), 1);
}

#[tokio::test]
async fn refusal_of_our_certificate_is_in_the_state_the_error_and_the_log() {
    let (log, _guard) = Log::capture();
    let (ca, foreign) = (Ca::new("ca"), Ca::new("foreign"));
    let files = Files::new(&ca, &foreign, "agent.test");
    let setup = Setup::with(&ca, &ca, files, Mode::Forward, |_| {}).await;
    let reason = "it refused our certificate: issued by a CA that it does not trust";
    setup.down(reason).await;
    let error = setup.check_policy().await.unwrap_err();
    assert!(error.is_outage() && error.to_string().contains(reason), "{error}");
    log.wait_for(reason).await;
    assert!(setup.double.calls().is_empty());
}

#[tokio::test]
async fn portal_with_another_name_is_refused() {
    let ca = Ca::new("ca");
    let setup = Setup::new(&ca, Mode::Forward, |settings| {
        settings.server_name = Some("other.test".to_owned());
    })
    .await;
    setup.down("its certificate is for").await;
}

#[tokio::test]
async fn portal_that_offers_only_tls12_is_refused_and_reported() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca, &ca, "agent.test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await;
            // The alert of OpenSSL with `-tls1_2` to a TLS 1.3 client: fatal, protocol_version.
            tcp.write_all(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46])
                .await
                .unwrap();
        }
    });
    let tls = ClientTls::load(files.paths()).unwrap();
    let portal = Portal::start(settings(address), tls, &tasks, &Handle::current(), token.clone()).unwrap();
    let mut state = portal.state();
    let down = state.wait_for(
        |state| matches!(state, ConnectionState::Down { reason, .. } if reason.contains("TLS 1.2")),
    );
    tokio::time::timeout(BOUND, down).await.unwrap().unwrap();
    token.cancel();
}

#[tokio::test]
async fn new_certificate_is_presented_on_a_new_connection_and_no_call_fails_meanwhile() {
    let ca = Ca::new("ca");
    let setup = Setup::new(&ca, Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup.check_policy().await.unwrap();
    setup.files.issue(&ca, "agent-2.test");
    setup.tls.reload().unwrap();
    setup.portal.reconnect();
    let calls = async {
        while setup.double.calls().last().unwrap().peer != "agent-2.test" {
            setup.check_policy().await.unwrap();
        }
    };
    tokio::time::timeout(BOUND, calls).await.unwrap();
    // One for logins and one for other calls, each replaced once.
    eventually("both connections are replaced", || setup.proxy.connections() == 4).await;
}

#[tokio::test]
async fn refused_new_certificate_keeps_the_old_connection() {
    let (log, _guard) = Log::capture();
    let (ca, foreign) = (Ca::new("ca"), Ca::new("foreign"));
    let setup = Setup::new(&ca, Mode::Forward, |_| {}).await;
    setup.connected().await;
    setup.files.issue(&foreign, "agent-2.test");
    setup.tls.reload().unwrap();
    setup.portal.reconnect();
    log.wait_for("could not rotate the portal connection, keeping the old one: it refused our certificate")
        .await;
    setup.check_policy().await.unwrap();

    setup.files.issue(&ca, "agent-3.test");
    setup.tls.reload().unwrap();
    let calls = async {
        while setup.double.calls().last().unwrap().peer != "agent-3.test" {
            setup.check_policy().await.unwrap();
        }
    };
    tokio::time::timeout(BOUND, calls).await.unwrap();
}
