//! What is read again and refused: the policy file, the configuration, the certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use testkit::pki::Validity;
use testkit::wait::{BOUND, until};

use super::harness::{Harness, RunningAgent, run};

const POLICY: &str = "version = 1\ndefault = \"allow\"\n\
                      rules = [{ verdict = \"deny\", users = [\"mallory\"] }]\n";

/// An agent that decides by a policy file.
struct Embedded {
    harness: Harness,
    port: u16,
}

impl Embedded {
    fn new() -> Self {
        let harness = Harness::new();
        let (socket, control, state) = (
            harness.socket(),
            harness.path("occtl.sock"),
            harness.path("state"),
        );
        let (uid, policy) = (nix::unistd::geteuid(), harness.path("policy.toml"));
        let text = format!(
            "agent_id = \"a1\"\nstate_dir = {state:?}\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [portal]\nmode = \"embedded\"\npolicy_file = {policy:?}\n\
             [ocserv]\nocctl_socket = {control:?}\n\
             [ipc]\nsocket = {socket:?}\nallowed_uids = [{uid}]\n"
        );
        fs::write(harness.path("config.toml"), text).unwrap();
        let port = harness.choose_http_port();
        let embedded = Self { harness, port };
        embedded.write_policy(POLICY);
        embedded
    }

    fn write_policy(&self, text: &str) {
        fs::write(self.harness.path("policy.toml"), text).unwrap();
    }

    fn copy(&self) -> PathBuf {
        self.harness.path("state/policy.last-good")
    }

    /// Runs the agent until it has written the copy of its policy.
    fn write_copy(&self) {
        let mut agent = self.harness.start_configured();
        until("the copy", BOUND, || self.copy().exists().then_some(())).unwrap();
        stop(&mut agent);
    }

    fn assert_decides_by_policy(&self, first_id: i32) {
        assert!(self.harness.login("alice", first_id).allowed);
        let denied = self.harness.login("mallory", first_id + 1);
        assert_eq!(
            (denied.allowed, denied.source.as_deref()),
            (false, Some("embedded"))
        );
    }
}

fn stop(agent: &mut RunningAgent) {
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code(), Some(0));
}

/// Waits until `/readyz` and `/metrics` say that `what` was refused because of `problem`.
fn wait_until_refused(harness: &Harness, port: u16, what: &str, problem: &str) {
    let page = |page| harness.http(port, page).unwrap_or_default();
    until(&format!("{what} to be refused"), BOUND, || {
        let ready = page("/readyz");
        (ready.contains("200 OK") && ready.contains("ready, degraded: ") && ready.contains(problem))
            .then_some(())
    })
    .unwrap_or_else(|timeout| panic!("{timeout}\n{}", page("/readyz")));
    let metric = format!("ocserv_agent_reload_failed{{what=\"{what}\"}} 1");
    assert!(page("/metrics").contains(&metric), "{metric}");
}

fn wait_until_ready(harness: &Harness, port: u16, what: &str) {
    let page = |page| harness.http(port, page).unwrap_or_default();
    until("ready", BOUND, || {
        page("/readyz").ends_with("\r\nready\n").then_some(())
    })
    .unwrap_or_else(|timeout| panic!("{timeout}\n{}", page("/readyz")));
    let metric = format!("ocserv_agent_reload_failed{{what=\"{what}\"}} 0");
    assert!(page("/metrics").contains(&metric), "{metric}");
}

#[test]
fn a_policy_file_that_is_broken_at_the_start_leaves_the_last_good_policy_in_effect() {
    let embedded = Embedded::new();
    embedded.write_copy();
    let mode = embedded.copy().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    embedded.write_policy("version = 1\nnot a policy");
    let mut agent = embedded.harness.start_configured();
    let line = agent.wait_for_log("last good policy");
    assert!(line.contains("ERROR") && line.contains("policy.toml:2"), "{line}");
    embedded.assert_decides_by_policy(1);
    let (harness, port) = (&embedded.harness, embedded.port);
    wait_until_refused(harness, port, "policy", "policy.toml:2");
    let check = run(&["--check-config"], &harness.path("config.toml"));
    assert_eq!(check.status.code(), Some(2), "{check:?}");

    embedded.write_policy(&POLICY.replace("mallory", "trudy"));
    wait_until_ready(harness, port, "policy");
    assert!(harness.login("mallory", 3).allowed);
    assert!(!harness.login("trudy", 4).allowed);
    until("the new copy", BOUND, || {
        fs::read_to_string(embedded.copy())
            .unwrap()
            .contains("trudy")
            .then_some(())
    })
    .unwrap();
    stop(&mut agent);

    fs::remove_file(harness.path("policy.toml")).unwrap();
    let _agent = harness.start_configured();
    assert!(!harness.login("trudy", 5).allowed);
    wait_until_refused(harness, port, "policy", "policy.toml: cannot be read");
}

#[test]
fn a_policy_file_that_breaks_is_reported_until_it_is_good_again() {
    let embedded = Embedded::new();
    let _agent = embedded.harness.start_configured();
    wait_until_ready(&embedded.harness, embedded.port, "policy");
    embedded.write_policy("version = 1\nnot a policy");
    wait_until_refused(&embedded.harness, embedded.port, "policy", "policy.toml:2");
    embedded.assert_decides_by_policy(1);
    embedded.write_policy(POLICY);
    wait_until_ready(&embedded.harness, embedded.port, "policy");
}

#[test]
fn a_broken_policy_file_without_a_usable_copy_fails_the_start() {
    let embedded = Embedded::new();
    embedded.write_policy("version = 1\nnot a policy");
    let fails = |problem: &str| {
        let failed = run(&[], &embedded.harness.path("config.toml"));
        assert_eq!(failed.status.code(), Some(2), "{failed:?}");
        let text = String::from_utf8(failed.stderr).unwrap();
        assert!(
            text.contains("portal.policy_file: ") && text.contains("policy.toml:2"),
            "{text}"
        );
        assert!(text.contains(problem), "{problem} is not in {text}");
    };
    fails("");

    embedded.write_policy(POLICY);
    embedded.write_copy();
    embedded.write_policy("version = 1\nnot a policy");
    let copy = embedded.copy();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    fails("other users can access it");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(&copy).unwrap();
    fs::write(&copy, text.replace("mallory", "trudy")).unwrap();
    fails("is damaged");
}

#[test]
fn a_state_directory_that_cannot_be_used_does_not_keep_a_policy_from_changing() {
    let embedded = Embedded::new();
    fs::write(embedded.harness.path("state"), "not a directory").unwrap();
    let agent = embedded.harness.start_configured();
    let line = agent.wait_for_log("could not save the policy");
    assert!(line.contains("ERROR") && line.contains("state_dir"), "{line}");
    embedded.assert_decides_by_policy(1);
    embedded.write_policy(&POLICY.replace("mallory", "trudy"));
    until("the new policy", BOUND, || {
        (!embedded.harness.login("trudy", 3).allowed).then_some(())
    })
    .unwrap();
    fs::remove_file(embedded.harness.path("state")).unwrap();
    until("the copy", BOUND, || embedded.copy().exists().then_some(())).unwrap();
}

#[test]
fn a_refused_configuration_or_certificate_is_reported_until_a_reload_takes_it() {
    let harness = Harness::new();
    harness.configure("");
    let port = harness.choose_http_port();
    let good = fs::read_to_string(harness.path("config.toml")).unwrap();
    let agent = harness.start_configured();
    let reload = |config: String| {
        fs::write(harness.path("config.toml"), config).unwrap();
        agent.signal(Signal::SIGHUP);
    };
    wait_until_ready(&harness, port, "config");

    reload(format!("{good}colour = 1\n"));
    wait_until_refused(&harness, port, "config", "ipc.colour: unknown key");
    reload(good.clone());
    wait_until_ready(&harness, port, "config");

    let expired = harness
        .pki
        .issue("expired", &["agent.test"], Validity::Expired)
        .unwrap();
    let saved = fs::read(&harness.files.cert).unwrap();
    let saved_key = fs::read(&harness.files.key).unwrap();
    fs::copy(&expired.cert, &harness.files.cert).unwrap();
    fs::copy(&expired.key, &harness.files.key).unwrap();
    reload(good.clone());
    wait_until_refused(&harness, port, "certificates", "expired on");
    // A configuration that is refused too does not hide it.
    reload(format!("{good}colour = 1\n"));
    wait_until_refused(&harness, port, "config", "ipc.colour: unknown key");
    wait_until_refused(&harness, port, "certificates", "expired on");

    fs::write(&harness.files.cert, saved).unwrap();
    fs::write(&harness.files.key, saved_key).unwrap();
    reload(good);
    wait_until_ready(&harness, port, "certificates");
}
