//! The command line: certificates and error messages.

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{Portal, identity, pki, run, stderr};

const POLICY: &str = "version = 1\n";

#[test]
fn pki_creates_identities_with_private_keys() {
    let dir = tempfile::tempdir().unwrap();
    let pki_dir = dir.path().join("a/pki");
    let output = run(&[
        "pki",
        pki_dir.to_str().unwrap(),
        "--name",
        "agent=vpn1.example.org",
        "--name",
        "second=two",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mode = |file: &str| pki_dir.join(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(pki_dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["portal", "agent", "operator", "ocserv", "second"] {
        assert_eq!(mode(&format!("{name}.key")), 0o600, "{name}");
        let identity = identity(&pki_dir, name);
        assert!(identity.warnings().is_empty(), "{:?}", identity.warnings());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "agent, localhost, 127.0.0.1, ::1, vpn1.example.org",
        "[grpc]",
        "agent.key\"",
        "--pki",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn pki_overwrites_nothing_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path());
    let before = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let again = run(&["pki", dir.path().to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    assert_eq!(std::fs::read(dir.path().join("ca.pem")).unwrap(), before);

    let forced = run(&["pki", dir.path().to_str().unwrap(), "--force"]);
    assert!(forced.status.success());
    assert_ne!(std::fs::read(dir.path().join("ca.pem")).unwrap(), before);
    identity(dir.path(), "agent");
}

#[test]
fn a_failed_start_is_one_line_with_its_cause() {
    let portal = Portal::start(POLICY);
    let pki = portal.pki();
    let pki = pki.to_str().unwrap();
    let policy = portal.dir.path().join("policy.toml");
    let policy = policy.to_str().unwrap();
    let broken = portal.dir.path().join("broken.toml");
    std::fs::write(&broken, "version = 1\nttl = 5\n").unwrap();
    let broken = broken.to_str().unwrap();
    let used = portal.address.to_string();
    for (args, why) in [
        (
            vec!["--pki", pki, "--policy", policy, "--listen", &used],
            "could not listen on 127.0.0.1:",
        ),
        (
            vec!["--pki", pki, "--policy", "/nonexistent"],
            "could not load the policy: /nonexistent: cannot be read: ",
        ),
        (
            vec!["--pki", pki, "--policy", broken],
            "broken.toml:2: ttl: invalid type",
        ),
        (
            vec!["--pki", "/nonexistent", "--policy", policy],
            "/nonexistent/ca.pem: no such file",
        ),
        (vec!["--policy", policy], "missing --pki DIR"),
        (
            vec![
                "--pki",
                pki,
                "--policy",
                policy,
                "--listen",
                "127.0.0.1:0",
                "--events",
                "/nonexistent/e",
            ],
            "could not open the events file /nonexistent/e: ",
        ),
    ] {
        let failed = run(&[vec!["serve"], args].concat());
        assert_eq!(failed.status.code(), Some(2));
        let log = stderr(&failed);
        let last = log.lines().last().unwrap();
        assert!(last.starts_with("portal-dev: ") && last.contains(why), "{log}");
    }
}
