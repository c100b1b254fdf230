//! The units in `deploy/systemd` on a booted server, whose first process is systemd.
//!
//! `cargo xtask test --booted` runs these tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use testkit::booted::BootedServer;
use testkit::lab::own_program;
use testkit::wait::{BOUND, until};

const UNIT: &str = "ocserv-agent.service";
/// Longest time until systemd has replaced an agent that stalls: `WatchdogSec=` and, if the signal
/// does not end the agent, `TimeoutStopSec=`, with time to spare.
const WATCHDOG_BOUND: Duration = Duration::from_secs(120);

const VALID: &str = r#"
agent_id = "vpn1"
[portal]
mode = "embedded"
policy_file = "/etc/ocserv-agent/policy.toml"
"#;
const POLICY: &str = "version = 1\ndefault = \"allow\"\n";

/// A login as ocserv starts it; the exit code of the connect-script is the decision.
const LOGIN: &str = "REASON=connect ID=7 USERNAME=alice GROUPNAME= DEVICE=vpns0 \
    IP_REAL=192.0.2.1 IP_REMOTE=10.0.0.2 VHOST=default /etc/ocserv-agent/connect-script";

/// Boots a server with the files of a release, installed as docs/install.md says, and this
/// configuration; starts the units.
fn installed(config: &str) -> BootedServer {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let deploy = deploy.canonicalize().unwrap();
    let programs = ["ocserv-agent", "vpn-auth"].map(|name| own_program(name).unwrap());
    let shared: Vec<&Path> = [&deploy]
        .into_iter()
        .chain(&programs)
        .map(PathBuf::as_path)
        .collect();
    let server = BootedServer::boot(&shared).unwrap();
    let (deploy, [agent, helper]) = (deploy.display(), programs.each_ref().map(|path| path.display()));
    server
        .run(&format!(
            "set -e
            install -m 755 {agent} {helper} /usr/bin/
            install -D -m 755 {deploy}/connect-script /etc/ocserv-agent/connect-script
            install -m 644 {deploy}/systemd/ocserv-agent.* /etc/systemd/system/
            printf '%s' '{POLICY}' >/etc/ocserv-agent/policy.toml
            chmod 600 /etc/ocserv-agent/policy.toml"
        ))
        .unwrap();
    configure(&server, config);
    server
        .run("systemctl daemon-reload && systemctl enable --now ocserv-agent.socket ocserv-agent.service")
        .unwrap();
    server
}

fn configure(server: &BootedServer, config: &str) {
    let path = "/etc/ocserv-agent/config.toml";
    server
        .run(&format!(
            "printf '%s' '{config}' >{path}.new && mv {path}.new {path}"
        ))
        .unwrap();
}

/// The exit code of a login; 0 allows it.
fn login(server: &BootedServer) -> Option<i32> {
    server.exec(LOGIN).unwrap().status.code()
}

fn property(server: &BootedServer, name: &str) -> String {
    server.property(UNIT, name).unwrap()
}

#[test]
#[ignore = "boots a server: cargo xtask test --booted"]
fn an_invalid_configuration_makes_no_loop_of_starts_and_serves_once_it_is_valid() {
    let server = installed("colour = 1\n");
    let agent = property(&server, "MainPID");
    // Each connection that is left over on the socket could start the service anew.
    for _ in 0..20 {
        assert_eq!(login(&server), Some(2), "by ON_AGENT_DOWN");
    }
    assert_eq!(property(&server, "NRestarts"), "0");
    assert_eq!(
        (property(&server, "MainPID"), property(&server, "ActiveState")),
        (agent.clone(), "active".to_owned())
    );
    let status = property(&server, "StatusText");
    assert!(status.contains("no login is decided"), "{status}");
    let errors = server.journal(&format!("--priority=err --unit={UNIT}")).unwrap();
    assert!(errors.contains("colour: unknown key"), "{errors}");

    configure(&server, VALID);
    until("an allowed login", BOUND, || {
        (login(&server) == Some(0)).then_some(())
    })
    .unwrap();
    assert_eq!(
        (property(&server, "MainPID"), property(&server, "NRestarts")),
        (agent, "0".to_owned())
    );
    server.power_off().unwrap();
}

#[test]
#[ignore = "boots a server: cargo xtask test --booted"]
fn a_reload_of_an_invalid_configuration_fails_with_its_reason_and_changes_nothing() {
    let server = installed(VALID);
    assert_eq!(login(&server), Some(0), "{}", server.journal("").unwrap());
    let agent = property(&server, "MainPID");
    server.run("systemctl reload ocserv-agent").unwrap();
    let no_errors = server.journal(&format!("--priority=err --unit={UNIT}")).unwrap();
    assert_eq!(no_errors, "");

    configure(&server, "colour = 1\n");
    assert!(
        !server
            .exec("systemctl reload ocserv-agent")
            .unwrap()
            .status
            .success()
    );
    let reason = "/etc/ocserv-agent/config.toml:1: colour: unknown key";
    let journal = || server.journal(&format!("--unit={UNIT}")).unwrap();
    until("the reason in the journal", BOUND, || {
        journal().contains(reason).then_some(())
    })
    .unwrap();
    let errors = || server.journal(&format!("--priority=err --unit={UNIT}")).unwrap();
    until("the error of the agent", BOUND, || {
        errors().contains("could not reload").then_some(())
    })
    .unwrap();
    assert!(!errors().contains("agent is ready"), "{}", errors());
    assert_eq!(login(&server), Some(0));
    assert_eq!(
        (property(&server, "MainPID"), property(&server, "NRestarts")),
        (agent, "0".to_owned())
    );
}

#[test]
#[ignore = "boots a server: cargo xtask test --booted"]
fn a_login_thread_that_is_stopped_is_replaced_by_the_watchdog() {
    let server = installed(VALID);
    assert_eq!(login(&server), Some(0), "{}", server.journal("").unwrap());
    let agent = property(&server, "MainPID");
    // The first thread serves logins; a signal would stop the others too.
    let thread = server.pid_on_this_machine(&agent).unwrap();
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    waitpid(thread, None).unwrap();
    let ended = until("the end of the stopped agent", WATCHDOG_BOUND, || {
        let status = waitpid(thread, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).ok()?;
        (status.pid().is_some()).then_some(status)
    });
    assert!(ended.is_ok(), "{ended:?}\n{}", server.journal("").unwrap());
    until("an allowed login", BOUND, || {
        (login(&server) == Some(0)).then_some(())
    })
    .unwrap();
    assert_ne!(property(&server, "MainPID"), agent);
    assert_eq!(property(&server, "NRestarts"), "1");
    let journal = server.journal("").unwrap();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}
