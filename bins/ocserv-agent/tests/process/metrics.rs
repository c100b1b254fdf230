//! What `/metrics` shows of the ocserv next to the agent.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use testkit::fake_control::Fault;
use testkit::wait::{BOUND, until};

use super::place::Place;

fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_ocserv_that_stops_answering_shows_in_the_metrics_and_logins_go_on() {
    let place = Place::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _agent = place.start_with(|config| {
        config.replace(
            "[http]\nlisten = \"127.0.0.1:0\"",
            &format!("[http]\nlisten = \"{address}\""),
        )
    });
    let shows = |line: &str| {
        until(line, BOUND, || {
            metrics(address).lines().any(|l| l == line).then_some(())
        })
        .unwrap();
    };
    shows("ocserv_agent_ocserv_up 1");
    shows("ocserv_agent_occtl_requests_total{command=\"list\",status=\"answered\"} 1");
    place.control.set_fault(Some(Fault::Refuse));
    assert!(place.login("alice", 1).allowed);
    shows("ocserv_agent_ocserv_up 0");
}
