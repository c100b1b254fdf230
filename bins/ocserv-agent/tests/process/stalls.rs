//! An agent that is stopped, or whose login thread is.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use ipc::client::{ClientError, send_request};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use testkit::wait::{BOUND, until};

use super::harness::{Harness, PROGRAM, next_notification, request};

#[test]
fn a_login_that_an_agent_reads_too_late_is_not_decided_and_the_log_says_who_decided() {
    let harness = Harness::new();
    let agent = harness.start("");
    agent.signal(Signal::SIGSTOP);
    let gave_up = send_request(
        &harness.socket(),
        Duration::from_millis(300),
        &request("connect", "alice", 7),
    );
    assert!(matches!(gave_up, Err(ClientError::Timeout(_))), "{gave_up:?}");
    agent.signal(Signal::SIGCONT);
    let line = agent.wait_for_log("login not decided");
    for part in [
        "outcome=\"on_agent_down\"",
        "reason=\"read after the helper's deadline: ON_AGENT_DOWN of the connect-script applies\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    // A login after it is decided as usual.
    assert!(harness.login("bob", 8).allowed);
    assert_eq!(harness.portal.checks().len(), 1, "bob's");
}

#[test]
fn a_login_thread_that_stalls_ends_the_watchdog_notifications_and_liveness() {
    let harness = Harness::new();
    let notify = UnixDatagram::bind(harness.path("notify")).unwrap();
    let limit = Duration::from_millis(900);
    harness.configure("");
    let port = harness.choose_http_port();
    let agent = harness.spawn(
        Command::new(PROGRAM)
            .arg("--config")
            .arg(harness.path("config.toml"))
            .env("NOTIFY_SOCKET", harness.path("notify"))
            .env("WATCHDOG_USEC", limit.as_micros().to_string()),
    );
    let next = |within: Duration| {
        notify.set_read_timeout(Some(within)).unwrap();
        let mut text = [0; 1024];
        let length = notify.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    };
    let alive = || harness.http_status(port, "/livez");
    until("a notification", BOUND, || {
        next(BOUND).filter(|text| text.contains("WATCHDOG=1"))
    })
    .unwrap();
    until("liveness", BOUND, || (alive() == Some(200)).then_some(())).unwrap();

    // Stops the main thread, which serves logins, and no other.
    let thread = Pid::from_raw(agent.child.id().try_into().unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    nix::sys::wait::waitpid(thread, None).unwrap();
    until("the end of the liveness", BOUND, || {
        (alive() == Some(503)).then_some(())
    })
    .unwrap();
    // What was sent before is read first.
    notify.set_nonblocking(true).unwrap();
    while notify.recv(&mut [0; 1024]).is_ok() {}
    notify.set_nonblocking(false).unwrap();
    assert_eq!(next(limit * 2), None, "systemd ends such a process");
    agent.wait_for_log("logins are not served");

    ptrace::detach(thread, None).unwrap();
    until("liveness", BOUND, || (alive() == Some(200)).then_some(())).unwrap();
    agent.wait_for_log("logins are served again");
    until("a notification", BOUND, || {
        next(BOUND).filter(|text| text.contains("WATCHDOG=1"))
    })
    .unwrap();
    drop(fs::remove_file(harness.path("notify")));
}

#[test]
fn the_agents_own_pings_are_no_rejected_peers_when_its_user_may_not_ask() {
    let harness = Harness::new();
    let notify = harness.notify_socket();
    harness.configure("");
    harness.disallow_own_uid();
    let port = harness.choose_http_port();
    let _agent = harness.spawn(
        Command::new(PROGRAM)
            .arg("--config")
            .arg(harness.path("config.toml"))
            .env("NOTIFY_SOCKET", harness.path("notify"))
            .env("WATCHDOG_USEC", "900000"),
    );
    until("a notification", BOUND, || {
        next_notification(&notify).contains("WATCHDOG=1").then_some(())
    })
    .unwrap();
    let metrics = harness.http(port, "/metrics").unwrap();
    assert!(
        metrics.contains("\nocserv_agent_ipc_rejected_peers_total 0\n"),
        "{metrics}"
    );
}
