//! Whatever a user is called: the helper and the agent decide the login or refuse it in words, and nobody is let in by the
//! way. ocserv itself refuses some of these names, so the connect-script is run as ocserv would run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use testkit::lab::{AgentOptions, Lab, Question};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::scene::{eager, said};
use testkit::wait::BOUND;

const LONG: [u8; 63] = [b'u'; 63];
const TOO_LONG: [u8; 64] = [b'u'; 64];
/// 63 bytes, of which the last character is two.
const LONG_IN_UTF8: &str = "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuë";

/// A lab whose portal lets everybody in.
fn open_lab(name: &str) -> (Lab, PortalDouble) {
    let lab = Lab::builder(name).agent(AgentOptions::default()).start().unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().start(&eager("")).unwrap();
    portal.on_check(Reply::allow());
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    (lab, portal)
}

/// Runs the lab's connect-script for a user with a name of any bytes; gives its exit code and its line.
fn run_script(lab: &Lab, name: &[u8], id: &str) -> (Option<i32>, String) {
    let output = Command::new(lab.directory().join("connect-script"))
        .env_clear()
        .envs([("REASON", "connect"), ("ID", id), ("IP_REAL", "10.77.0.2")])
        .env("USERNAME", OsStr::from_bytes(name))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "one line, whatever the name: {line:?}");
    (output.status.code(), line)
}

#[test]
fn a_name_that_can_be_one_is_put_to_the_portal_byte_by_byte() {
    let (lab, portal) = open_lab("names-asked");
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
fn a_name_that_can_be_none_is_refused_in_words_and_the_portal_is_not_asked() {
    let (lab, portal) = open_lab("names-refused");
    let refused: [(&[u8], i32, &str); 16] = [
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
    for ((name, code, why), id) in refused.into_iter().zip(1_000_000_001..) {
        let (got, line) = run_script(&lab, name, &i32::to_string(&id));
        assert_eq!(got, Some(code), "{line}");
        assert!(
            line.starts_with("vpn-auth: outcome=deny ") && line.contains(why),
            "{line}"
        );
        assert_eq!(line.contains("deny_code=\"bad_request\""), code == 1, "{line}");
    }
    assert!(portal.checks().is_empty(), "{:?}", portal.checks());
    let by_agent = refused.iter().filter(|(_, code, _)| *code == 1).count();
    let refusals = said(&lab, "login decided")
        .into_iter()
        .filter(|line| line["deny_code"] == "bad_request" && line["client_ip"] == "10.77.0.2");
    let refusals: Vec<_> = refusals.collect();
    assert_eq!(refusals.len(), by_agent, "each leaves its audit line");
    assert!(
        refusals.iter().any(|line| line["user"] == "../evil"),
        "{refusals:?}"
    );
}

#[test]
fn the_agent_refuses_by_itself_what_its_helper_would_not_have_sent() {
    let (lab, portal) = open_lab("names-direct");
    for name in [
        "",
        "../evil",
        "a/b",
        "a\nb",
        "a\0b",
        &"u".repeat(64),
        &"u".repeat(4096),
    ] {
        let answer = Question::login("x").with("username", name).ask(&lab).unwrap();
        assert_eq!(answer["allowed"], false, "{name:?}");
        assert_eq!(answer["deny_code"], "bad_request", "{name:?}");
        assert!(
            answer["error"].as_str().unwrap().starts_with("username "),
            "{answer}"
        );
    }
    // Not UTF-8: no request at all.
    let mut frame = Question::login("zoxx").frame();
    let at = frame.windows(4).position(|bytes| bytes == b"zoxx").unwrap();
    frame[at + 2] = 0xeb;
    let mut stream = std::os::unix::net::UnixStream::connect(lab.agent().socket()).unwrap();
    std::io::Write::write_all(&mut stream, &frame).unwrap();
    let answer = Question::answer(stream).unwrap();
    assert_eq!(
        (&answer["allowed"], &answer["deny_code"]),
        (&false.into(), &"bad_request".into())
    );
    assert!(portal.checks().is_empty());
    assert_eq!(Question::login("alice").ask(&lab).unwrap()["allowed"], true);
}
