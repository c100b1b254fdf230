//! A peer that offers nothing newer than TLS 1.2 is refused in both directions, though its certificate is good, and the log
//! says why. OpenSSL plays the peer, because rustls here cannot be talked into TLS 1.2.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

use testkit::lab::{AGENT_GRPC, Lab, PORTAL, Place, Running};
use testkit::scene::{eager, last_decision};
use testkit::wait::{self, BOUND};

/// What the agent's log says of such a peer.
const WHY: &str = "it offers only TLS 1.2 or older";

fn lab(name: &str) -> Lab {
    Lab::builder(name)
        .users(&["alice"])
        .agent(eager(""))
        .start()
        .unwrap()
}

/// `openssl` at the portal's place, with the portal's good certificate.
fn openssl(lab: &Lab, words: &[&str]) -> Command {
    let identity = lab.pki().portal().unwrap();
    let mut command = lab.command(Place::Portal, "openssl");
    command
        .args(words)
        .arg("-CAfile")
        .arg(identity.ca)
        .arg("-cert")
        .arg(identity.cert)
        .arg("-key")
        .arg(identity.key)
        .args(["-alpn", "h2"])
        .stdin(Stdio::null());
    command
}

#[test]
fn a_caller_that_offers_only_tls_1_2_is_refused() {
    let lab = lab("tls12-caller");
    let call = |version: &str| {
        let words = [
            "s_client",
            "-connect",
            AGENT_GRPC,
            version,
            "-verify_return_error",
        ];
        openssl(&lab, &words).output().unwrap()
    };
    let refused = call("-tls1_2");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("alert protocol version"), "{said}");
    let line = lab.agent().wait_for_log(WHY, BOUND).unwrap();
    assert!(line.contains("10.78.0.2"), "{line}");

    let admitted = call("-tls1_3");
    assert!(
        admitted.status.success(),
        "nothing but the version is wrong with it"
    );
    let said = String::from_utf8_lossy(&admitted.stdout);
    assert!(
        said.contains("TLSv1.3") && said.contains("ALPN protocol: h2"),
        "{said}"
    );
}

#[test]
fn a_portal_that_offers_only_tls_1_2_is_refused_and_decides_nothing() {
    let lab = lab("tls12-portal");
    let serve = |version: &str| -> Running {
        let words = [
            "s_server",
            "-accept",
            PORTAL,
            version,
            "-rev",
            "-Verify",
            "1",
            "-verify_return_error",
        ];
        lab.spawn(&format!("portal{version}"), openssl(&lab, &words))
            .unwrap()
    };
    let portal = serve("-tls1_2");
    portal.wait_for_log("ACCEPT", BOUND).unwrap();
    lab.agent().wait_for_log(WHY, BOUND).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_by_script());
    let decision = last_decision(&lab, "alice");
    assert_eq!(
        (&decision["outcome"], &decision["deny_code"]),
        (&"deny".into(), &"outage".into())
    );
    assert!(
        !portal.logs().contains("CONNECTION ESTABLISHED"),
        "{}",
        portal.logs()
    );
    portal.kill();

    let portal = serve("-tls1_3");
    wait::until(
        "a handshake with what differs in nothing but the version",
        BOUND,
        || portal.logs().contains("CONNECTION ESTABLISHED").then_some(()),
    )
    .unwrap();
}
