//! A peer that offers nothing newer than TLS 1.2 is rejected in both directions in spite of a valid
//! certificate, and the log says why. The peer is OpenSSL, because rustls is built without TLS 1.2.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

use testkit::harness::{fast_reconnect, last_decision};
use testkit::lab::{AGENT_GRPC, Lab, ManagedProcess, Node, PORTAL};
use testkit::wait::{self, BOUND};

/// The agent's log line about such a peer.
const TOO_OLD: &str = "it offers only TLS 1.2 or older";

fn lab(name: &str) -> Lab {
    Lab::builder(name)
        .users(&["alice"])
        .agent(fast_reconnect(""))
        .start()
        .unwrap()
}

/// Runs `openssl` on the portal node, with the portal's valid certificate.
fn openssl(lab: &Lab, arguments: &[&str]) -> Command {
    let identity = lab.pki().portal().unwrap();
    let mut command = lab.command(Node::Portal, "openssl");
    command
        .args(arguments)
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
fn a_caller_that_offers_only_tls_1_2_is_rejected() {
    let lab = lab("tls12-caller");
    let call = |version: &str| {
        let arguments = [
            "s_client",
            "-connect",
            AGENT_GRPC,
            version,
            "-verify_return_error",
        ];
        openssl(&lab, &arguments).output().unwrap()
    };
    let rejected = call("-tls1_2");
    assert!(!rejected.status.success());
    let output = String::from_utf8_lossy(&rejected.stderr);
    assert!(output.contains("alert protocol version"), "{output}");
    let line = lab.agent().wait_for_log(TOO_OLD, BOUND).unwrap();
    assert!(line.contains("10.78.0.2"), "{line}");

    let accepted = call("-tls1_3");
    assert!(accepted.status.success(), "it differs only in the version");
    let output = String::from_utf8_lossy(&accepted.stdout);
    assert!(
        output.contains("TLSv1.3") && output.contains("ALPN protocol: h2"),
        "{output}"
    );
}

#[test]
fn a_portal_that_offers_only_tls_1_2_is_rejected_and_decides_nothing() {
    let lab = lab("tls12-portal");
    let serve = |version: &str| -> ManagedProcess {
        let arguments = [
            "s_server",
            "-accept",
            PORTAL,
            version,
            "-rev",
            "-Verify",
            "1",
            "-verify_return_error",
        ];
        lab.spawn(&format!("portal{version}"), openssl(&lab, &arguments))
            .unwrap()
    };
    let portal = serve("-tls1_2");
    portal.wait_for_log("ACCEPT", BOUND).unwrap();
    lab.agent().wait_for_log(TOO_OLD, BOUND).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
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
        "handshake of a peer that differs only in the version",
        BOUND,
        || portal.logs().contains("CONNECTION ESTABLISHED").then_some(()),
    )
    .unwrap();
}
