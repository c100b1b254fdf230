//! The process as systemd starts it: with the IPC socket, a socket for notifications and a journal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use ipc::client::{ClientError, send_request};
use testkit::wait::{BOUND, until};

use super::harness::{Harness, PROGRAM, next_notification, request};

#[test]
fn an_invalid_configuration_neither_ends_the_process_nor_delays_a_login_and_is_read_again() {
    let harness = Harness::new();
    let notify = harness.notify_socket();
    fs::create_dir(harness.path("run")).unwrap();
    let listener = UnixListener::bind(harness.socket()).unwrap();
    harness.configure("colour = 1\n");
    let mut agent = harness.spawn_with_socket(&listener);
    // A connection was waiting: it must not cause another start.
    for id in 1..=3 {
        let answer = send_request(&harness.socket(), BOUND, &request("connect", "alice", id));
        assert!(matches!(answer, Err(ClientError::Closed)), "{answer:?}");
    }
    let first = next_notification(&notify);
    assert!(
        first.starts_with("READY=1") && first.contains("STATUS=no login is decided"),
        "{first}"
    );
    agent.wait_for_log("ipc.colour: unknown key");
    assert!(agent.child.try_wait().unwrap().is_none(), "it stays");

    harness.configure("");
    agent.wait_for_log("agent is ready");
    assert!(harness.login("alice", 7).allowed);
    drop(listener);
}

#[test]
fn lines_for_the_journal_have_a_priority_and_no_time_of_their_own() {
    for (stream, is_journal) in [("the log's own", true), ("1:1", false)] {
        let harness = Harness::new();
        harness.configure("");
        let log = harness.path("agent.log");
        let file = fs::File::create(&log).unwrap();
        let meta = file.metadata().unwrap();
        let own = format!("{}:{}", meta.dev(), meta.ino());
        let stream = if is_journal { own } else { stream.to_owned() };
        let mut agent = Command::new(PROGRAM)
            .arg("--config")
            .arg(harness.path("config.toml"))
            .env("JOURNAL_STREAM", stream)
            .stderr(file)
            .spawn()
            .unwrap();
        let lines = until("a line", BOUND, || {
            let text = fs::read_to_string(&log).ok()?;
            text.contains("agent is ready").then_some(text)
        });
        drop((agent.kill(), agent.wait()));
        for line in lines.unwrap().lines() {
            assert_eq!(
                line.starts_with("<6>") || line.starts_with("<4>"),
                is_journal,
                "{line}"
            );
            assert_eq!(!line.starts_with("20"), is_journal, "{line}");
        }
    }
}

/// The shell command of `ExecReload=` in the unit, for this program and this configuration.
fn reload_command(harness: &Harness) -> String {
    let unit = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/systemd/ocserv-agent.service"
    );
    let unit = fs::read_to_string(unit).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecReload=/bin/sh -c "));
    let config = harness.path("config.toml");
    line.unwrap()
        .trim_matches('\'')
        .replace("/usr/bin/ocserv-agent", PROGRAM)
        .replace("/etc/ocserv-agent/config.toml", config.to_str().unwrap())
}

#[test]
fn the_units_reload_fails_for_a_broken_file_and_says_why() {
    let harness = Harness::new();
    let agent = harness.start("");
    let reload = || {
        Command::new("/bin/sh")
            .args(["-c", &reload_command(&harness)])
            .env("MAINPID", agent.child.id().to_string())
            .output()
            .unwrap()
    };
    let good = reload();
    assert!(good.status.success() && good.stdout.is_empty(), "{good:?}");
    agent.wait_for_log("reloaded");
    harness.configure("deadline = \"soon\"\n");
    let broken = reload();
    let error = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(2), "{error}");
    assert!(error.contains("ipc.deadline"), "{error}");
    agent.wait_for_log("could not reload");
}

#[test]
fn an_ocserv_that_is_not_there_at_the_start_is_no_warning_yet() {
    let harness = Harness::new();
    harness.configure("");
    harness.edit_config("occtl.sock", "not-yet.sock");
    harness.edit_config("10m", "500ms");
    let agent = harness.start_configured();
    let line = agent.wait_for_log("ocserv does not list its sessions");
    assert!(line.contains(" INFO "), "{line}");
    let line = agent.wait_for_log("ocserv's control socket is unavailable");
    assert!(line.contains(" WARN "), "{line}");
}
