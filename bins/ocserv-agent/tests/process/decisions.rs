//! What `ocserv-agent decisions` shows, and what it needs for it.

use std::fs;

use testkit::portal_double::Reply;

use super::place::{Place, run};

/// What it says, with its exit code.
fn said(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments, &place.path("config.toml"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn an_operator_sees_who_was_decided_how_and_why() {
    let place = Place::new();
    place.portal.on_check_of("mallory", Reply::deny("not you"));
    let _agent = place.start("");
    assert!(place.login("alice", 4242).allowed);
    assert!(!place.login("mallory", 4243).allowed);

    let shown = |arguments: &[&str]| {
        let output = run(arguments, &place.path("config.toml"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = shown(&["decisions"]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert!(lines[0].starts_with("TIME"), "{all}");
    for part in ["mallory", "10.77.0.2", "denied", "portal", "not you"] {
        assert!(lines[1].contains(part), "{part} is missing in {all}");
    }
    assert!(lines[2].contains("alice") && lines[2].contains(" in "), "{all}");
    let hers = shown(&["decisions", "--user", "alice"]);
    assert_eq!(hers.lines().count(), 2, "{hers}");
}

#[test]
fn decisions_are_shown_when_nothing_in_the_configuration_is_good_but_the_socket() {
    let place = Place::new();
    let _agent = place.start("");
    assert!(place.login("alice", 4242).allowed);
    let socket = place.socket();
    fs::write(
        place.path("config.toml"),
        format!("colour = 7\n[ipc]\nsocket = {socket:?}\ndeadline = \"soon\"\n[portal\n"),
    )
    .unwrap();
    let (code, shown) = said(&place, &["decisions"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("alice"), "{shown}");

    fs::remove_file(place.path("config.toml")).unwrap();
    let (code, shown) = said(&place, &["decisions"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(
        shown.contains("config.toml: cannot be read") && shown.contains("--socket PATH"),
        "{shown}"
    );
    let (code, shown) = said(&place, &["decisions", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("alice"), "{shown}");
}

#[test]
fn where_there_is_no_decision_that_is_said_in_words() {
    let place = Place::new();
    let _agent = place.start("");
    assert_eq!(
        said(&place, &["decisions"]),
        (Some(0), "no decision yet\n".to_owned())
    );
    assert!(place.login("alice", 4242).allowed);
    assert_eq!(
        said(&place, &["decisions", "--user", "bob"]),
        (Some(0), "no decision about bob\n".to_owned())
    );
}

#[test]
fn who_gets_no_decisions_hears_why() {
    let place = Place::new();
    let mut agent = place.start("");
    let (code, shown) = said(&place, &["decisions", "--user", "a\nb"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("it refused: ") && shown.contains("username"),
        "{shown}"
    );

    let config = place.path("config.toml");
    let uid = nix::unistd::geteuid();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(&format!("allowed_uids = [{uid}]"), "allowed_uids = [4000000]"),
    )
    .unwrap();
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.logs("reloaded");
    let (code, shown) = said(&place, &["decisions"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("run this as root, or as a user in ipc.allowed_uids"),
        "{shown}"
    );

    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.exit_code();
    let (code, shown) = said(&place, &["decisions"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("could not ask the agent at") && shown.contains("not reachable"),
        "{shown}"
    );
}
