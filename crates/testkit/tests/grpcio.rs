//! A portal on another implementation of gRPC: a grpcio server with its default settings. What it
//! makes of the agent's connections, and what the agent makes of its statuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::thread;
use std::time::Duration;

use testkit::harness::{fast_reconnect, last_decision, log_lines};
use testkit::lab::{IpcRequest, Lab, ManagedProcess, Node, PORTAL};
use testkit::wait::BOUND;

/// The idle time of the connections: eight times the interval of the keepalive.
const IDLE: Duration = Duration::from_secs(8);

fn lab(name: &str) -> Lab {
    let agent = fast_reconnect(
        "portal.keepalive_interval = \"1s\"\nresilience.circuit_breaker.failure_threshold = 100",
    );
    Lab::builder(name).users(&["alice"]).agent(agent).start().unwrap()
}

fn start_portal(lab: &Lab) -> ManagedProcess {
    let identity = lab.pki().portal().unwrap();
    let mut command = lab.command(Node::Portal, "/usr/bin/python3");
    command
        .args(["-c", include_str!("grpcio/portal.py")])
        .args([identity.ca, identity.cert, identity.key])
        .arg(PORTAL);
    let portal = lab.spawn("grpcio", command).unwrap();
    portal.wait_for_log("ready", BOUND).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal
}

/// The address from which the agent asked about `user`.
fn peer(portal: &ManagedProcess, user: &str) -> String {
    let line = portal.wait_for_log(&format!("check {user} "), BOUND).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn idle_connections_send_nothing_that_a_server_closes_them_for() {
    let lab = lab("grpcio-idle");
    let portal = start_portal(&lab);
    // Its event uses the second connection.
    lab.server().connect("alice").unwrap();
    let established = "connection for events is established";
    lab.agent().wait_for_log(established, BOUND).unwrap();
    let connections = || ["portal connected", established].map(|line| log_lines(&lab, line).len());
    assert_eq!(connections(), [1, 1]);
    // There is no state to wait for: nothing must happen. A server of gRPC core closes a connection
    // at the third ping without a call between, so pings at the interval would be too many by now.
    thread::sleep(IDLE);
    assert_eq!(IpcRequest::login("bob").call(&lab).unwrap()["allowed"], true);
    assert_eq!(peer(&portal, "alice"), peer(&portal, "bob"), "{}", portal.logs());
    assert_eq!(connections(), [1, 1], "{}", lab.agent().logs());
}

#[test]
fn each_status_of_the_server_decides_as_documented() {
    let lab = lab("grpcio-statuses");
    let portal = start_portal(&lab);
    let outage = ("deny", Some("outage"), Some("fail_close"));
    let rejected = |code| ("deny", Some(code), Some("portal"));
    for (user, expected) in [
        ("alice", ("allow", None, Some("portal"))),
        ("mallory", rejected("policy")),
        ("invalid_argument", rejected("bad_request")),
        ("not_found", rejected("policy")),
        ("permission_denied", rejected("policy")),
        ("unknown", outage),
        ("internal", outage),
        ("exception", outage),
        ("cancelled", outage),
        ("deadline_exceeded", outage),
        ("already_exists", outage),
        ("resource_exhausted", outage),
        ("failed_precondition", outage),
        ("aborted", outage),
        ("out_of_range", outage),
        ("unimplemented", outage),
        ("unavailable", outage),
        ("data_loss", outage),
        ("unauthenticated", outage),
        ("bob", ("allow", None, Some("portal"))),
    ] {
        IpcRequest::login(user).call(&lab).unwrap();
        let decision = last_decision(&lab, user);
        let outcome = decision["outcome"].as_str().unwrap();
        let (code, source) = (decision["deny_code"].as_str(), decision["source"].as_str());
        assert_eq!((outcome, code, source), expected, "{decision}\n{}", portal.logs());
    }
    assert_eq!(peer(&portal, "alice"), peer(&portal, "bob"), "{}", portal.logs());
}
