//! The helper and the agent decide a login or reject it with a reason, whatever the user name.
//! ocserv rejects some of these names, so the connect-script is run as ocserv would run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use testkit::harness::{fast_reconnect, log_lines};
use testkit::lab::{AgentOptions, IpcRequest, Lab};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::wait::BOUND;

const LONG: [u8; 63] = [b'u'; 63];
const TOO_LONG: [u8; 64] = [b'u'; 64];
/// 63 bytes, with a last character of two bytes.
const LONG_IN_UTF8: &str = "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuë";

/// Starts a lab whose portal allows every user.
fn allowing_lab(name: &str) -> (Lab, PortalDouble) {
    let lab = Lab::builder(name).agent(AgentOptions::default()).start().unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().start(&fast_reconnect("")).unwrap();
    portal.on_check(Reply::allow());
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    (lab, portal)
}

/// Runs the lab's connect-script for a name of any bytes; returns its exit code and its line.
fn run_script(lab: &Lab, name: &[u8], id: &str) -> (Option<i32>, String) {
    let output = Command::new(lab.directory().join("connect-script"))
        .env_clear()
        .envs([("REASON", "connect"), ("ID", id), ("IP_REAL", "10.77.0.2")])
        .env("USERNAME", OsStr::from_bytes(name))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "one line for any name: {line:?}");
    (output.status.code(), line)
}

#[test]
fn a_valid_name_reaches_the_portal_unchanged() {
    let (lab, portal) = allowing_lab("names-valid");
    assert_eq!(LONG_IN_UTF8.len(), 63);
    let names: [&[u8]; 9] = [
        b"sp ace",
        b"a  b",
        b"x@y.org",
        b"a..b",
        b".hidden",
        b"a\"q\\'$(id)`;",
        "zo\u{eb}".as_bytes(),
        &LONG,
        LONG_IN_UTF8.as_bytes(),
    ];
    for (name, id) in names.into_iter().zip(1_000_000_001..) {
        let (code, line) = run_script(&lab, name, &i32::to_string(&id));
        assert_eq!(code, Some(0), "{line}");
        let name = str::from_utf8(name).unwrap();
        assert_eq!(portal.checks_of(name).len(), 1, "{name:?}");
    }
    assert_eq!(portal.checks().len(), names.len());
}

#[test]
fn an_invalid_name_is_rejected_with_a_reason_and_without_a_policy_check() {
    let (lab, portal) = allowing_lab("names-invalid");
    let invalid: [(&[u8], i32, &str); 16] = [
        (b"", 4, "USERNAME is not set"),
        (b"zo\xeb", 4, "USERNAME is not UTF-8"),
        (b"\xff\xfe", 4, "USERNAME is not UTF-8"),
        (&[b'u'; 1025], 4, "USERNAME is longer than 1024 bytes"),
        (&TOO_LONG, 1, "username has 64 bytes"),
        (b"a/b", 1, "username contains a slash"),
        (b"../evil", 1, "username contains a slash"),
        (b"/", 1, "username contains a slash"),
        (b"..", 1, "username is a directory name"),
        (b".", 1, "username is a directory name"),
        (b"-rf", 1, "username begins with a dash"),
        (b" alice", 1, "username begins or ends with white space"),
        (b"alice ", 1, "username begins or ends with white space"),
        (
            b"alice\noutcome=allow",
            1,
            "username contains a control character",
        ),
        (b"a\x1b[2Kb", 1, "username contains a control character"),
        (
            "a\u{2028}b".as_bytes(),
            1,
            "username contains a control character",
        ),
    ];
    for ((name, code, why), id) in invalid.into_iter().zip(1_000_000_001..) {
        let (got, line) = run_script(&lab, name, &i32::to_string(&id));
        assert_eq!(got, Some(code), "{line}");
        assert!(
            line.starts_with("vpn-auth: outcome=deny ") && line.contains(why),
            "{line}"
        );
        assert_eq!(line.contains("deny_code=\"bad_request\""), code == 1, "{line}");
    }
    assert!(portal.checks().is_empty(), "{:?}", portal.checks());
    let by_agent = invalid.iter().filter(|(_, code, _)| *code == 1).count();
    let denials = log_lines(&lab, "login decided")
        .into_iter()
        .filter(|line| line["deny_code"] == "bad_request" && line["client_ip"] == "10.77.0.2");
    let denials: Vec<_> = denials.collect();
    assert_eq!(denials.len(), by_agent, "each has an audit line");
    assert!(
        denials.iter().any(|line| line["user"] == "../evil"),
        "{denials:?}"
    );
}

#[test]
fn the_agent_rejects_names_that_its_helper_would_not_send() {
    let (lab, portal) = allowing_lab("names-direct");
    for name in [
        "",
        "../evil",
        "a/b",
        "a\nb",
        "a\0b",
        &"u".repeat(64),
        &"u".repeat(4096),
    ] {
        let response = IpcRequest::login("x").with("username", name).call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{name:?}");
        assert_eq!(response["deny_code"], "bad_request", "{name:?}");
        assert!(
            response["error"].as_str().unwrap().starts_with("username "),
            "{response}"
        );
    }
    // Not UTF-8: not a valid request.
    let mut frame = IpcRequest::login("zoxx").frame();
    let at = frame.windows(4).position(|bytes| bytes == b"zoxx").unwrap();
    frame[at + 2] = 0xeb;
    let mut stream = std::os::unix::net::UnixStream::connect(lab.agent().socket()).unwrap();
    std::io::Write::write_all(&mut stream, &frame).unwrap();
    let response = IpcRequest::read_response(stream).unwrap();
    assert_eq!(
        (&response["allowed"], &response["deny_code"]),
        (&false.into(), &"bad_request".into())
    );
    assert!(portal.checks().is_empty());
    assert_eq!(IpcRequest::login("alice").call(&lab).unwrap()["allowed"], true);
}
