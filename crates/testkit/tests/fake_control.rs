//! The fake control socket, asked byte by byte. What the real `occtl` says to it stands in `lab.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "the set-up of a test fails by panicking, as the test does"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tempfile::TempDir;
use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Fault, Release, command};

const DISCONNECT_ALICE: &[u8] = b"\x0a\x05alice";

fn fake() -> (FakeControl, TempDir) {
    let directory = TempDir::new().unwrap();
    let fake = FakeControl::start(&directory.path().join("occtl.sock")).unwrap();
    fake.set_sessions(vec![
        FakeSession::connected(7, "alice"),
        FakeSession::connected(8, "bob"),
        FakeSession::before_login(9),
    ]);
    (fake, directory)
}

fn ask(fake: &FakeControl, command: u8, payload: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(fake.path()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut request = vec![command];
    request.extend(u32::try_from(payload.len()).unwrap().to_ne_bytes());
    request.extend(payload);
    stream.write_all(&request).unwrap();
    let mut reply = Vec::new();
    // A fault may leave the connection open; what came until then is the reply.
    let _ = stream.read_to_end(&mut reply);
    reply
}

#[test]
fn a_list_has_every_row_and_a_whole_frame() {
    let (fake, _directory) = fake();
    let reply = ask(&fake, command::LIST, &[]);
    assert_eq!(reply[0], command::LIST_REPLY);
    assert_eq!(
        u32::from_ne_bytes(reply[1..5].try_into().unwrap()) as usize,
        reply.len() - 5
    );
    let text = String::from_utf8_lossy(&reply);
    assert!(text.contains("alice") && text.contains("bob") && text.contains("unknown"));
}

#[test]
fn a_disconnect_takes_the_user_out_once() {
    let (fake, _directory) = fake();
    let done = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 1];
    let nobody = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 0];
    assert_eq!(ask(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE), done);
    assert_eq!(ask(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE), nobody);
    assert_eq!(fake.sessions().len(), 2);
    assert_eq!(fake.count(command::DISCONNECT_NAME), 2);
    // Zigzag: 8 travels as 16.
    assert_eq!(ask(&fake, command::DISCONNECT_ID, &[8, 16])[5..], [8, 1]);
    assert_eq!(fake.sessions(), [FakeSession::before_login(9)]);
}

#[test]
fn an_unknown_command_just_ends_the_connection() {
    let (fake, _directory) = fake();
    assert!(ask(&fake, 13, DISCONNECT_ALICE).is_empty());
}

#[test]
fn a_session_that_lingers_is_listed_until_the_list_was_asked_for_so_often() {
    let (fake, _directory) = fake();
    fake.set_linger(2);
    let done = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 1];
    for looks in [1, 0] {
        assert_eq!(
            ask(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE),
            done,
            "told again"
        );
        let list = ask(&fake, command::LIST, &[]);
        let listed = String::from_utf8_lossy(&list).contains("alice");
        assert_eq!(listed, looks > 0);
    }
}

#[test]
fn a_session_whose_script_runs_is_connected_once_it_was_asked_for_so_often() {
    let (fake, _directory) = fake();
    fake.set_sessions(vec![FakeSession::in_script(8, "alice")]);
    fake.set_script(2);
    for state in [1, 1, 4] {
        ask(&fake, command::ID_INFO, &[8, 16]);
        assert_eq!(fake.sessions()[0].state, state);
    }
}

#[test]
fn a_newer_release_supports_terminate_and_reports_the_start_of_a_login() {
    let (fake, _directory) = fake();
    let id = "493QXRGitRB0evhV9UecXq8PDMo=";
    fake.set_logins(vec![FakeLogin::detached(id, "carol")]);
    let request = [&[10, 28], id.as_bytes()].concat();
    let with_nul = [&[10, 29], id.as_bytes(), b"\0"].concat();
    let list = ask(&fake, command::LIST, &[]);
    fake.restart_as(Release::V1_4_1);
    assert!(ask(&fake, command::LIST, &[]).len() > list.len());
    assert!(ask(&fake, command::TERMINATE_SESSION, &request).is_empty());
    assert!(String::from_utf8_lossy(&ask(&fake, command::LIST_COOKIES, &[])).contains("carol"));
    fake.restart_as(Release::V1_4_2);
    assert_eq!(ask(&fake, command::TERMINATE_SESSION, &with_nul)[5..], [8, 0]);
    assert!(fake.terminated().is_empty());
    assert_eq!(ask(&fake, command::TERMINATE_SESSION, &request)[5..], [8, 1]);
    assert_eq!(ask(&fake, command::TERMINATE_SESSION, &request)[5..], [8, 0]);
    assert_eq!(ask(&fake, command::LIST_COOKIES, &[]).len(), 5, "no entry");
    assert_eq!(fake.terminated().len(), 2);
    assert_eq!(ask(&fake, command::TERMINATE_USER, DISCONNECT_ALICE)[5..], [8, 1]);
}

#[test]
fn faults_replace_the_reply_until_they_are_taken_back() {
    let (fake, _directory) = fake();
    let whole = ask(&fake, command::STATUS, &[]);
    for (fault, reply) in [
        (Fault::Refuse, vec![]),
        (Fault::Hang, vec![]),
        (
            Fault::Slow {
                piece: 9,
                pause: Duration::from_millis(1),
            },
            whole.clone(),
        ),
        (Fault::Torn(7), whole[..7].to_vec()),
        (Fault::WrongCommand(104), [&[104], &whole[1..]].concat()),
        (Fault::Raw(vec![1, 2, 3]), vec![1, 2, 3]),
    ] {
        fake.set_fault(Some(fault.clone()));
        assert_eq!(ask(&fake, command::STATUS, &[]), reply, "{fault:?}");
    }
    fake.set_fault(None);
    assert_eq!(ask(&fake, command::STATUS, &[]), whole);
}

#[test]
fn recorded_bytes_come_as_they_are() {
    let (fake, _directory) = fake();
    fake.replay(command::LIST, b"anything".to_vec());
    assert_eq!(ask(&fake, command::LIST, &[]), b"anything");
}
