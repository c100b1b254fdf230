//! The program as it is run: a portal on loopback, a control socket without an ocserv, signals and exit codes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod callers;
mod decisions;
mod metrics;
mod place;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ipc::Request;
use ipc::client::send_request;
use nix::sys::signal::Signal;
use testkit::fake_control::FakeSession;
use testkit::pki::Validity;
use testkit::portal_double::{PortalEvent, Reply};
use testkit::wait::{BOUND, until};

use place::{PROGRAM, Place, Running, request, run};

#[test]
fn a_login_is_decided_by_the_portal_and_the_portal_hears_of_the_session() {
    let place = Place::new();
    place.portal.on_check_of("mallory", Reply::deny("not you"));
    let mut session = FakeSession::connected(4242, "alice");
    (session.state, session.connected_at) = (1, 1_700_000_000);
    place.control.set_sessions(vec![session]);
    let mut agent = place.start("");

    assert!(place.login("alice", 4242).allowed);
    let denied = place.login("mallory", 4243);
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
    assert!(send_request(&place.socket(), BOUND, &end).unwrap().allowed);
    let PortalEvent::Disconnect(end) =
        place.wait_for("the end", |event| matches!(event, PortalEvent::Disconnect(_)))
    else {
        unreachable!()
    };
    assert_eq!(
        end.metadata["session_uid"], "a1/4242/1700000000",
        "ocserv says when the session began"
    );
    let stats = end.stats.unwrap();
    assert_eq!(
        (stats.bytes_received, stats.bytes_sent, stats.duration_seconds),
        (10, 20, 5)
    );
    let events = place.portal.events();
    assert!(
        matches!(&events[..], [PortalEvent::Connect(_), PortalEvent::Disconnect(_)]),
        "{events:?}"
    );

    let line = agent.logs("login decided");
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
    assert!(!place.socket().exists());
}

#[test]
fn a_name_that_looks_like_fields_of_the_audit_line_forges_none() {
    let place = Place::new();
    let name = "mallory outcome=\"allow\" source=portal";
    place.portal.on_check_of(name, Reply::deny("not you"));
    let agent = place.start("");
    assert!(!place.login(name, 7).allowed);
    let line = agent.logs("login decided");
    assert!(
        line.contains("user=\"mallory outcome=\\\"allow\\\" source=portal\" "),
        "{line}"
    );
    assert!(line.contains(" outcome=\"deny\""), "{line}");
    assert!(!line.contains(" outcome=\"allow\""), "{line}");
}

#[test]
fn a_stop_answers_every_login_under_way_and_delivers_every_event() {
    let place = Place::new();
    place.portal.delay(Duration::from_millis(300));
    let mut agent = place.start("");
    let logins: Vec<_> = (1..=20)
        .map(|n| {
            let socket = place.socket();
            thread::spawn(move || send_request(&socket, BOUND, &request("connect", &format!("u{n}"), n)))
        })
        .collect();
    place.portal.wait_for_checks(1, BOUND).unwrap();
    // Whoever is connected by now is answered; a login that comes after the stop finds no agent, and says so.
    until("all 20 to be under way", BOUND, || {
        (place.portal.checks().len() == 20).then_some(())
    })
    .unwrap();
    place.portal.delay(Duration::ZERO);
    agent.signal(Signal::SIGTERM);
    for login in logins {
        assert!(login.join().unwrap().unwrap().allowed);
    }
    assert_eq!(agent.exit_code(), Some(0));
    assert_eq!(place.portal.events().len(), 20);
    agent.logs("all events are delivered");
}

#[test]
fn a_portal_that_is_not_there_means_deny_in_time() {
    let place = Place::new();
    place.portal.stop();
    let agent = place.start("");
    let denied = place.login("alice", 7);
    assert_eq!(
        (denied.allowed, denied.deny_code.as_deref()),
        (false, Some("outage"))
    );
    assert_eq!(denied.source.as_deref(), Some("fail_close"));
    drop(agent);
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let place = Place::new();
    let mut agent = place.start("");
    place.configure("deadline = \"2500ms\"\nmax_connections = 9\n");
    agent.signal(Signal::SIGHUP);
    assert!(agent.logs("needs a restart").contains("ipc.max_connections"));
    agent.logs("reloaded");

    place.configure("deadline = \"soon\"\n");
    agent.signal(Signal::SIGHUP);
    let line = agent.logs("could not reload");
    assert!(
        line.contains("ipc.deadline") && line.contains("config.toml:"),
        "{line}"
    );
    assert!(place.login("alice", 7).allowed, "it goes on");

    // A peer that is no longer allowed is refused from now on.
    let config = place.configure("");
    let text = fs::read_to_string(&config).unwrap();
    let uid = nix::unistd::geteuid();
    fs::write(
        &config,
        text.replace(&format!("allowed_uids = [{uid}]"), "allowed_uids = [4000000]"),
    )
    .unwrap();
    agent.signal(Signal::SIGHUP);
    until("the new list", BOUND, || {
        (place.login("alice", 8).deny_code.as_deref() == Some("peer_refused")).then_some(())
    })
    .unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn a_reload_shows_the_portal_the_new_certificate() {
    let place = Place::new();
    let agent = place.start("");
    assert!(place.login("alice", 1).allowed);
    // The portal trusts another authority now, and the agent has an identity of it.
    let foreign = place.pki.foreign().unwrap();
    let ours = foreign.agent().unwrap();
    place.portal.set_identity(&foreign.portal().unwrap()).unwrap();
    for (from, to) in [
        (&ours.ca, &place.files.ca),
        (&ours.cert, &place.files.cert),
        (&ours.key, &place.files.key),
    ] {
        fs::copy(from, to).unwrap();
    }
    agent.signal(Signal::SIGHUP);
    agent.logs("reloaded");
    place.portal.cut_connections();
    until("a login over it", BOUND, || {
        place.login("alice", 2).allowed.then_some(())
    })
    .unwrap();
}

#[test]
fn a_certificate_that_expired_does_not_keep_a_reload_from_changing_the_rest() {
    let place = Place::new();
    let agent = place.start("");
    let expired = place
        .pki
        .issue("expired", &["agent.test"], Validity::Expired)
        .unwrap();
    fs::copy(&expired.cert, &place.files.cert).unwrap();
    fs::copy(&expired.key, &place.files.key).unwrap();
    let config = place.path("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}[resilience]\nallow_fail_open_in_production = true\nfail_mode = \"open\"\n"),
    )
    .unwrap();
    agent.signal(Signal::SIGHUP);
    let line = agent.logs("could not reload an identity");
    assert!(
        line.contains("portal.tls") && line.contains("expired on"),
        "{line}"
    );
    // What an operator does about it works: the portal is gone, and everyone is to be let in.
    place.portal.stop();
    until("the new fail mode", BOUND, || {
        (place.login("bob", 2).source.as_deref() == Some("fail_open")).then_some(())
    })
    .unwrap();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    place.portal.on_event(Reply::acknowledge(true));
    let mut agent = place.start("");
    assert!(place.login("alice", 1).allowed);
    // The portal takes no event any more, so that the stop has to wait for it.
    place.wait_for("the beginning", |event| matches!(event, PortalEvent::Connect(_)));
    place.portal.delay(BOUND);
    send_request(&place.socket(), BOUND, &request("disconnect", "alice", 1)).unwrap();
    agent.signal(Signal::SIGTERM);
    agent.logs("all logins are answered");
    agent.signal(Signal::SIGINT);
    assert_eq!(agent.exit_code(), Some(3));
    agent.logs("stopping at once");
}

#[test]
fn an_agent_that_ends_with_events_that_nobody_took_says_so_with_its_exit_code() {
    let place = Place::new();
    let mut agent = place.start("");
    assert!(place.login("alice", 1).allowed);
    place.wait_for("the beginning", |event| matches!(event, PortalEvent::Connect(_)));
    place.portal.stop();
    send_request(&place.socket(), BOUND, &request("disconnect", "alice", 1)).unwrap();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(3));
    agent.logs("events lost");
}

#[test]
fn a_reload_that_hangs_on_its_files_does_not_keep_a_stop_from_being_heard() {
    let place = Place::new();
    let mut agent = place.start("");
    let config = place.path("config.toml");
    fs::remove_file(&config).unwrap();
    // Reading it waits until somebody writes, which nobody does.
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.signal(Signal::SIGHUP);
    agent.logs("reloading");
    assert!(place.login("alice", 1).allowed, "logins go on");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
}

#[test]
fn a_second_agent_does_not_start_and_a_stale_socket_is_no_obstacle() {
    let place = Place::new();
    let agent = place.start("");
    let second = run(&[], &place.path("config.toml"));
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains("could not start: ipc.socket: another agent is running"),
        "{said}"
    );
    assert!(place.login("alice", 1).allowed, "the first one goes on");
    drop(agent);
    assert!(place.socket().exists(), "it was killed");
    let _agent = place.start("");
    assert!(place.login("alice", 1).allowed);
}

#[test]
fn a_bad_configuration_has_its_own_exit_code_and_a_good_one_is_shown() {
    let place = Place::new();
    let config = place.configure("colour = 1\n");
    for arguments in [&["--check-config"][..], &[]] {
        let bad = run(arguments, &config);
        assert_eq!(bad.status.code(), Some(2));
        let said = String::from_utf8(bad.stderr).unwrap();
        assert!(
            said.contains("config.toml:") && said.contains("ipc.colour: unknown key"),
            "{said}"
        );
    }
    let config = place.configure("");
    let good = run(&["--check-config"], &config);
    assert_eq!(good.status.code(), Some(0));
    let said = String::from_utf8(good.stdout).unwrap();
    assert!(
        said.contains("config is good") && said.contains("portal.timeout = \"2s\""),
        "{said}"
    );
    assert!(!place.socket().exists(), "a check takes nothing");
}

#[test]
fn helpers_of_other_users_get_to_the_socket_though_the_umask_would_keep_them_out() {
    let place = Place::new();
    let config = place.configure("");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("/run/ipc.sock", "/made/run/ipc.sock")).unwrap();
    let log = fs::File::create(place.path("agent.log")).unwrap();
    let child = Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" --config \"$1\"", PROGRAM])
        .arg(config)
        .stderr(log)
        .spawn()
        .unwrap();
    let agent = Running {
        child,
        log: place.path("agent.log"),
    };
    agent.logs("agent is ready");
    for directory in ["made", "made/run"] {
        let mode = place.path(directory).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{directory}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named_and_logins_go_on() {
    let place = Place::new();
    fs::write(place.path("state"), "in the way").unwrap();
    let agent = place.start("");
    let line = agent.logs("decisions cannot be stored");
    assert!(line.contains("key=\"state_dir\""), "{line}");
    assert!(place.login("alice", 1).allowed);
}

#[test]
fn systemd_is_told_and_its_socket_is_used_and_left_in_place() {
    let place = Place::new();
    let notify = std::os::unix::net::UnixDatagram::bind(place.path("notify")).unwrap();
    notify.set_read_timeout(Some(BOUND)).unwrap();
    let told = || {
        let mut text = [0; 1024];
        let length = notify.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    fs::create_dir(place.path("run")).unwrap();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let config = place.configure("");
    let log = fs::File::create(place.path("agent.log")).unwrap();
    // As systemd does it: the socket is descriptor 3.
    let child = Command::new("sh")
        .args(["-c", "exec \"$0\" --config \"$1\" 3<&0 0</dev/null", PROGRAM])
        .arg(config)
        .env("LISTEN_FDS", "1")
        .env("NOTIFY_SOCKET", place.path("notify"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(
            listener.try_clone().unwrap(),
        )))
        .stderr(log)
        .spawn()
        .unwrap();
    let mut agent = Running {
        child,
        log: place.path("agent.log"),
    };
    assert!(told().starts_with("READY=1"));
    assert!(place.login("alice", 1).allowed);
    agent.signal(Signal::SIGHUP);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(told().starts_with("READY=1"));
    agent.signal(Signal::SIGTERM);
    let stopping = told();
    assert!(
        stopping.starts_with("STOPPING=1") && stopping.contains("\nEXTEND_TIMEOUT_USEC=15000000\n"),
        "{stopping}"
    );
    assert_eq!(agent.exit_code(), Some(0));
    assert!(place.socket().exists(), "it is systemd's");
    drop(listener);
}
