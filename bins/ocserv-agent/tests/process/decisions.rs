//! The command `ocserv-agent decisions`.

use std::fs;

use testkit::portal_double::Reply;

use super::harness::{Harness, run};

/// Runs the program; returns its exit code and its output.
fn run_and_capture(harness: &Harness, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments, &harness.path("config.toml"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_table_has_a_line_per_decision_and_can_be_filtered_by_user() {
    let harness = Harness::new();
    harness.portal.on_check_of("mallory", Reply::deny("not you"));
    let _agent = harness.start("");
    assert!(harness.login("alice", 4242).allowed);
    assert!(!harness.login("mallory", 4243).allowed);

    let table = |arguments: &[&str]| {
        let output = run(arguments, &harness.path("config.toml"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = table(&["decisions"]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    let columns: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        columns,
        [
            "TIME", "USER", "GROUP", "VHOST", "FROM", "RESULT", "SOURCE", "AGE", "DURATION", "REASON"
        ]
    );
    for part in ["mallory", "10.77.0.2", "denied", "portal", "not you"] {
        assert!(lines[1].contains(part), "{part} is missing in {all}");
    }
    assert!(
        lines[2].contains("alice") && lines[2].contains(" allowed "),
        "{all}"
    );
    let filtered = table(&["decisions", "--user", "alice"]);
    assert_eq!(filtered.lines().count(), 2, "{filtered}");
}

#[test]
fn decisions_are_printed_when_only_the_socket_is_valid_in_the_configuration() {
    let harness = Harness::new();
    let _agent = harness.start("");
    assert!(harness.login("alice", 4242).allowed);
    let socket = harness.socket();
    fs::write(
        harness.path("config.toml"),
        format!("colour = 7\n[ipc]\nsocket = {socket:?}\ndeadline = \"soon\"\n[portal\n"),
    )
    .unwrap();
    let (code, output) = run_and_capture(&harness, &["decisions"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("alice"), "{output}");

    fs::remove_file(harness.path("config.toml")).unwrap();
    let (code, output) = run_and_capture(&harness, &["decisions"]);
    assert_eq!(code, Some(2), "{output}");
    assert!(
        output.contains("config.toml: cannot be read") && output.contains("--socket PATH"),
        "{output}"
    );
    let (code, output) = run_and_capture(&harness, &["decisions", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("alice"), "{output}");
}

#[test]
fn a_sentence_is_printed_when_there_is_no_decision() {
    let harness = Harness::new();
    let _agent = harness.start("");
    assert_eq!(
        run_and_capture(&harness, &["decisions"]),
        (Some(0), "no decision yet\n".to_owned())
    );
    assert!(harness.login("alice", 4242).allowed);
    assert_eq!(
        run_and_capture(&harness, &["decisions", "--user", "bob"]),
        (Some(0), "no decision about bob\n".to_owned())
    );
}

#[test]
fn a_failure_is_printed_with_its_reason() {
    let harness = Harness::new();
    let mut agent = harness.start("");
    let (code, output) = run_and_capture(&harness, &["decisions", "--user", "a\nb"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("request rejected: ") && output.contains("username"),
        "{output}"
    );

    harness.disallow_own_uid();
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.wait_for_log("reloaded");
    let (code, output) = run_and_capture(&harness, &["decisions"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("run this as root, or as a user in ipc.allowed_uids"),
        "{output}"
    );

    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.exit_code();
    let (code, output) = run_and_capture(&harness, &["decisions"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("could not fetch decisions from the agent at") && output.contains("not reachable"),
        "{output}"
    );
}
