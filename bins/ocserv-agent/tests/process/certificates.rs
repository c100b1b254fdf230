//! Certificates that expire soon or have expired, and keys that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::pki::Validity;
use testkit::wait::{BOUND, until};

use super::harness::{Harness, run};
use super::metrics::{http_address, metrics};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The expiry in `cert`, as openssl shows it, in seconds since 1970.
fn expiry(cert: &Path) -> u64 {
    let shown = std::process::Command::new("sh")
        .args([
            "-c",
            "date -d \"$(openssl x509 -enddate -noout -in \"$0\" | cut -d= -f2)\" +%s",
        ])
        .arg(cert)
        .output()
        .unwrap();
    String::from_utf8(shown.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn an_expired_certificate_fails_the_check_and_is_an_error_line_at_the_start() {
    let mut harness = Harness::new();
    harness.files = harness
        .pki
        .issue("old", &["agent.lab"], Validity::Expired)
        .unwrap();
    let config = harness.configure("");
    let checked = run(&["--check-config"], &config);
    assert_eq!(checked.status.code(), Some(2));
    let problems = String::from_utf8(checked.stderr).unwrap();
    for section in ["portal.tls", "grpc.tls"] {
        let problem = format!("{section}.cert: {} expired on ", harness.files.cert.display());
        assert!(problems.contains(&problem), "{problems}");
    }
    assert!(problems.contains("config.toml:"), "{problems}");

    let agent = harness.start_configured();
    let line = agent.wait_for_log("certificate expired on");
    assert!(line.contains("ERROR") && line.contains("old.pem"), "{line}");
    // Nobody is locked out by the agent's own refusal to start.
    let _decided = harness.login("alice", 1);
}

#[test]
fn a_certificate_that_expires_soon_is_a_warning_at_the_start_and_at_a_reload_and_a_metric() {
    let mut harness = Harness::new();
    let soon = |days| Validity::For(days * DAY + DAY / 2);
    harness.files = harness.pki.issue("soon", &["agent.lab"], soon(6)).unwrap();
    let config = harness.configure("");
    let address = http_address(&harness);
    let checked = run(&["--check-config"], &config);
    assert_eq!(checked.status.code(), Some(0));
    let summary = String::from_utf8(checked.stdout).unwrap();
    assert!(summary.contains("config is good, with "), "{summary}");
    assert!(summary.contains("warning: portal.tls.cert: "), "{summary}");
    assert!(summary.contains("in 6 days"), "{summary}");

    let agent = harness.start_configured();
    let line = agent.wait_for_log("certificate expires in 6 days");
    assert!(line.contains("WARN"), "{line}");
    let metric = |cert: &Path| {
        let value = expiry(cert);
        let line = format!(
            "ocserv_agent_certificate_expiry_timestamp_seconds{{certificate=\"portal_client\"}} {value}"
        );
        until(&line, BOUND, || {
            metrics(address).lines().any(|l| l == line).then_some(())
        })
        .unwrap();
    };
    metric(&harness.files.cert);
    let text = metrics(address);
    for label in ["portal_ca", "grpc_server", "grpc_ca"] {
        assert!(text.contains(&format!("{{certificate=\"{label}\"}}")), "{text}");
    }
    harness.pki.issue("soon", &["agent.lab"], soon(0)).unwrap();
    agent.signal(Signal::SIGHUP);
    let line = agent.wait_for_log("certificate expires in less than a day");
    assert!(line.contains("WARN"), "{line}");
    metric(&harness.files.cert);
}

#[test]
fn a_key_that_others_can_read_is_a_warning_of_the_check_and_of_the_start() {
    let harness = Harness::new();
    fs::set_permissions(&harness.files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let config = harness.configure("");
    let checked = run(&["--check-config"], &config);
    assert_eq!(checked.status.code(), Some(0));
    let summary = String::from_utf8(checked.stdout).unwrap();
    assert!(summary.contains("config is good, with 3 warnings\n"), "{summary}");
    let what = "every user of this machine can read the private key";
    assert!(
        summary
            .lines()
            .any(|line| line.contains("warning: ") && line.contains(what)),
        "{summary}"
    );
    let agent = harness.start_configured();
    assert!(agent.wait_for_log(what).contains("WARN"));
}
