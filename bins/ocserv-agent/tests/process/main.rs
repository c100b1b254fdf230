//! The program as a process: a portal on loopback, a fake control socket, signals and exit codes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod certificates;
mod control;
mod decisions;
mod events;
mod grpc;
mod harness;
mod losses;
mod metrics;
mod refusals;
mod stalls;
mod supervised;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ipc::Request;
use ipc::client::send_request;
use nix::sys::signal::Signal;
use testkit::fake_control::FakeSession;
use testkit::pki::Validity;
use testkit::portal_double::{PortalEvent, Reply};
use testkit::wait::{BOUND, until};

use harness::{Harness, PROGRAM, next_notification, request, run};

#[test]
fn the_portal_decides_a_login_and_receives_its_sessions_events() {
    let harness = Harness::new();
    harness.portal.on_check_of("mallory", Reply::deny("not you"));
    let mut session = FakeSession::connected(4242, "alice");
    (session.state, session.connected_at) = (1, 1_700_000_000);
    harness.control.set_sessions(vec![session]);
    let mut agent = harness.start("");

    assert!(harness.login("alice", 4242).allowed);
    let denied = harness.login("mallory", 4243);
    assert_eq!(
        (denied.allowed, denied.deny_code.as_deref()),
        (false, Some("policy"))
    );
    assert_eq!(denied.error.as_deref(), Some("not you"));

    let end = Request {
        bytes_in: Some(10),
        bytes_out: Some(20),
        duration_seconds: Some(5),
        ..request("disconnect", "alice", 4242)
    };
    assert!(send_request(&harness.socket(), BOUND, &end).unwrap().allowed);
    let PortalEvent::Disconnect(end) = harness.wait_for_event("a disconnect", |event| {
        matches!(event, PortalEvent::Disconnect(_))
    }) else {
        unreachable!()
    };
    assert_eq!(
        end.metadata["session_uid"], "a1/4242/1700000000",
        "the connect time is ocserv's"
    );
    let stats = end.stats.unwrap();
    assert_eq!(
        (stats.bytes_received, stats.bytes_sent, stats.duration_seconds),
        (10, 20, 5)
    );
    let events = harness.portal.events();
    assert!(
        matches!(&events[..], [PortalEvent::Connect(_), PortalEvent::Disconnect(_)]),
        "{events:?}"
    );

    let line = agent.wait_for_log("login decided");
    for part in [
        "user=\"alice\"",
        "client_ip=10.77.0.2",
        "outcome=\"allow\"",
        "source=portal",
        "duration_ms=",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
    assert!(!harness.socket().exists());
}

#[test]
fn a_username_cannot_forge_fields_of_the_audit_line() {
    let harness = Harness::new();
    let name = "mallory outcome=\"allow\" source=portal";
    harness.portal.on_check_of(name, Reply::deny("not you"));
    let agent = harness.start("");
    assert!(!harness.login(name, 7).allowed);
    let line = agent.wait_for_log("login decided");
    assert!(
        line.contains("user=\"mallory outcome=\\\"allow\\\" source=portal\" "),
        "{line}"
    );
    assert!(line.contains(" outcome=\"deny\""), "{line}");
    assert!(!line.contains(" outcome=\"allow\""), "{line}");
}

#[test]
fn a_shutdown_completes_every_login_and_delivers_every_event() {
    let harness = Harness::new();
    harness.portal.delay(Duration::from_millis(300));
    let mut agent = harness.start("");
    let logins: Vec<_> = (1..=20)
        .map(|n| {
            let socket = harness.socket();
            thread::spawn(move || send_request(&socket, BOUND, &request("connect", &format!("u{n}"), n)))
        })
        .collect();
    harness.portal.wait_for_checks(1, BOUND).unwrap();
    // A login that starts after the signal is refused.
    until("20 logins in progress", BOUND, || {
        (harness.portal.checks().len() == 20).then_some(())
    })
    .unwrap();
    harness.portal.delay(Duration::ZERO);
    agent.signal(Signal::SIGTERM);
    for login in logins {
        assert!(login.join().unwrap().unwrap().allowed);
    }
    assert_eq!(agent.exit_code(), Some(0));
    assert_eq!(harness.portal.events().len(), 20);
    agent.wait_for_log("all events are delivered");
}

#[test]
fn a_login_without_a_portal_is_denied_in_time() {
    let harness = Harness::new();
    harness.portal.stop();
    let agent = harness.start("");
    let denied = harness.login("alice", 7);
    assert_eq!(
        (denied.allowed, denied.deny_code.as_deref()),
        (false, Some("outage"))
    );
    assert_eq!(denied.source.as_deref(), Some("fail_close"));
    drop(agent);
}

#[test]
fn a_reload_applies_dynamic_keys_and_logs_those_that_need_a_restart() {
    let harness = Harness::new();
    let mut agent = harness.start("");
    harness.configure("deadline = \"2500ms\"\nmax_connections = 9\n");
    agent.signal(Signal::SIGHUP);
    assert!(
        agent
            .wait_for_log("needs a restart")
            .contains("ipc.max_connections")
    );
    agent.wait_for_log("reloaded");

    harness.configure("deadline = \"soon\"\n");
    agent.signal(Signal::SIGHUP);
    let line = agent.wait_for_log("could not reload");
    assert!(
        line.contains("ipc.deadline") && line.contains("config.toml:"),
        "{line}"
    );
    assert!(harness.login("alice", 7).allowed, "the previous config stays");

    harness.configure("");
    harness.disallow_own_uid();
    agent.signal(Signal::SIGHUP);
    until("the new ipc.allowed_uids", BOUND, || {
        (harness.login("alice", 8).deny_code.as_deref() == Some("peer_refused")).then_some(())
    })
    .unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn a_reload_replaces_the_certificate_for_the_portal() {
    let harness = Harness::new();
    let agent = harness.start("");
    assert!(harness.login("alice", 1).allowed);
    // The portal trusts another CA now, which has issued the agent's new certificate.
    let foreign = harness.pki.foreign().unwrap();
    let ours = foreign.agent().unwrap();
    harness.portal.set_identity(&foreign.portal().unwrap()).unwrap();
    for (from, to) in [
        (&ours.ca, &harness.files.ca),
        (&ours.cert, &harness.files.cert),
        (&ours.key, &harness.files.key),
    ] {
        fs::copy(from, to).unwrap();
    }
    agent.signal(Signal::SIGHUP);
    agent.wait_for_log("reloaded");
    harness.portal.cut_connections();
    until("a login with the new certificate", BOUND, || {
        harness.login("alice", 2).allowed.then_some(())
    })
    .unwrap();
}

#[test]
fn a_reload_with_an_expired_certificate_applies_the_other_changes() {
    let harness = Harness::new();
    let agent = harness.start("");
    let expired = harness
        .pki
        .issue("expired", &["agent.test"], Validity::Expired)
        .unwrap();
    fs::copy(&expired.cert, &harness.files.cert).unwrap();
    fs::copy(&expired.key, &harness.files.key).unwrap();
    let config = harness.path("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}[resilience]\nallow_fail_open_in_production = true\nfail_mode = \"open\"\n"),
    )
    .unwrap();
    agent.signal(Signal::SIGHUP);
    let line = agent.wait_for_log("could not reload an identity");
    assert!(
        line.contains("portal.tls") && line.contains("expired on"),
        "{line}"
    );
    // The operator can still change the fail mode while the portal is down.
    harness.portal.stop();
    until("the new fail mode", BOUND, || {
        (harness.login("bob", 2).source.as_deref() == Some("fail_open")).then_some(())
    })
    .unwrap();
}

#[test]
fn a_second_signal_ends_the_shutdown_at_once() {
    let harness = Harness::new();
    harness.portal.on_event(Reply::acknowledge(true));
    let mut agent = harness.start("");
    assert!(harness.login("alice", 1).allowed);
    // The portal no longer acknowledges events, so that the shutdown waits for it.
    harness.wait_for_event("a connect", |event| matches!(event, PortalEvent::Connect(_)));
    harness.portal.delay(BOUND);
    send_request(&harness.socket(), BOUND, &request("disconnect", "alice", 1)).unwrap();
    agent.signal(Signal::SIGTERM);
    agent.wait_for_log("all logins are answered");
    agent.signal(Signal::SIGINT);
    assert_eq!(agent.exit_code(), Some(3));
    agent.wait_for_log("stopping at once");
}

#[test]
fn a_reload_that_hangs_on_a_file_does_not_delay_a_shutdown() {
    let harness = Harness::new();
    let mut agent = harness.start("");
    let config = harness.path("config.toml");
    fs::remove_file(&config).unwrap();
    // A read blocks until a process writes, and none does.
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.signal(Signal::SIGHUP);
    agent.wait_for_log("reloading");
    assert!(harness.login("alice", 1).allowed);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn a_second_agent_does_not_start_and_a_stale_socket_is_replaced() {
    let harness = Harness::new();
    let agent = harness.start("");
    let second = run(&[], &harness.path("config.toml"));
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(
        error.contains("could not start: ipc.socket: another agent is running"),
        "{error}"
    );
    assert!(harness.login("alice", 1).allowed, "the first agent serves");
    drop(agent);
    assert!(harness.socket().exists(), "the agent was killed");
    let _agent = harness.start("");
    assert!(harness.login("alice", 1).allowed);
}

#[test]
fn an_invalid_configuration_has_its_own_exit_code_and_a_valid_one_is_printed() {
    let harness = Harness::new();
    let config = harness.configure("colour = 1\n");
    for arguments in [&["--check-config"][..], &[]] {
        let invalid = run(arguments, &config);
        assert_eq!(invalid.status.code(), Some(2));
        let error = String::from_utf8(invalid.stderr).unwrap();
        assert!(
            error.contains("config.toml:") && error.contains("ipc.colour: unknown key"),
            "{error}"
        );
    }
    let config = harness.configure("");
    let valid = run(&["--check-config"], &config);
    assert_eq!(valid.status.code(), Some(0));
    let summary = String::from_utf8(valid.stdout).unwrap();
    assert!(
        summary.contains("config is good") && summary.contains("portal.timeout = \"2s\""),
        "{summary}"
    );
    assert!(!harness.socket().exists(), "a check binds nothing");
}

#[test]
fn the_sockets_directory_is_accessible_to_other_users_whatever_the_umask() {
    let harness = Harness::new();
    harness.configure("");
    let config = harness.edit_config("/run/ipc.sock", "/made/run/ipc.sock");
    let agent = harness.spawn(
        Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" --config \"$1\"", PROGRAM])
            .arg(config),
    );
    agent.wait_for_log("agent is ready");
    for directory in ["made", "made/run"] {
        let mode = harness.path(directory).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{directory}");
    }
}

#[test]
fn an_unusable_state_directory_is_logged_and_logins_are_decided() {
    let harness = Harness::new();
    fs::write(harness.path("state"), "not a directory").unwrap();
    let agent = harness.start("");
    let line = agent.wait_for_log("decision store does not work");
    assert!(line.contains("ERROR") && line.contains("state_dir"), "{line}");
    assert!(harness.login("alice", 1).allowed);
}

#[test]
fn systemds_socket_is_used_and_kept_and_systemd_is_notified() {
    let harness = Harness::new();
    let notify = harness.notify_socket();
    fs::create_dir(harness.path("run")).unwrap();
    let listener = UnixListener::bind(harness.socket()).unwrap();
    harness.configure("");
    let mut agent = harness.spawn_with_socket(&listener);
    assert!(next_notification(&notify).starts_with("READY=1"));
    assert!(harness.login("alice", 1).allowed);
    agent.signal(Signal::SIGHUP);
    assert!(next_notification(&notify).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(next_notification(&notify).starts_with("READY=1"));
    agent.signal(Signal::SIGTERM);
    let stopping = next_notification(&notify);
    assert!(
        stopping.starts_with("STOPPING=1") && stopping.contains("\nEXTEND_TIMEOUT_USEC=15000000\n"),
        "{stopping}"
    );
    assert_eq!(agent.exit_code(), Some(0));
    assert!(harness.socket().exists(), "systemd owns the socket");
    drop(listener);
}
