//! Metrics of the agent's ocserv in `/metrics`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use testkit::fake_control::Fault;
use testkit::wait::{BOUND, until};

use super::harness::Harness;

pub(crate) fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Sets `http.listen` to a free address, and returns it.
pub(crate) fn http_address(harness: &Harness) -> SocketAddr {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    harness.edit_config(
        "[http]\nlisten = \"127.0.0.1:0\"",
        &format!("[http]\nlisten = \"{address}\""),
    );
    address
}

#[test]
fn an_unavailable_ocserv_sets_its_metric_and_logins_are_decided() {
    let harness = Harness::new();
    harness.configure("");
    let address = http_address(&harness);
    let _agent = harness.start_configured();
    let wait_for_metric = |line: &str| {
        until(line, BOUND, || {
            metrics(address).lines().any(|l| l == line).then_some(())
        })
        .unwrap();
    };
    wait_for_metric("ocserv_agent_ocserv_up 1");
    wait_for_metric("ocserv_agent_occtl_requests_total{command=\"list\",status=\"answered\"} 1");
    harness.control.set_fault(Some(Fault::Refuse));
    assert!(harness.login("alice", 1).allowed);
    wait_for_metric("ocserv_agent_ocserv_up 0");
}
