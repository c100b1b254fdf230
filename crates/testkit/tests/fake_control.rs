//! The fake control socket, byte by byte. `lab.rs` runs the real `occtl` against it.

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

fn request(fake: &FakeControl, command: u8, payload: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(fake.path()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut frame = vec![command];
    frame.extend(u32::try_from(payload.len()).unwrap().to_ne_bytes());
    frame.extend(payload);
    stream.write_all(&frame).unwrap();
    let mut reply = Vec::new();
    // A fault may leave the connection open; the reply is what was sent until then.
    let _ = stream.read_to_end(&mut reply);
    reply
}

#[test]
fn a_list_has_every_row_and_a_complete_frame() {
    let (fake, _directory) = fake();
    let reply = request(&fake, command::LIST, &[]);
    assert_eq!(reply[0], command::LIST_REPLY);
    assert_eq!(
        u32::from_ne_bytes(reply[1..5].try_into().unwrap()) as usize,
        reply.len() - 5
    );
    let text = String::from_utf8_lossy(&reply);
    assert!(text.contains("alice") && text.contains("bob") && text.contains("unknown"));
}

#[test]
fn a_disconnect_removes_the_user_once() {
    let (fake, _directory) = fake();
    let done = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 1];
    let not_found = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 0];
    assert_eq!(request(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE), done);
    assert_eq!(
        request(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE),
        not_found
    );
    assert_eq!(fake.sessions().len(), 2);
    assert_eq!(fake.count(command::DISCONNECT_NAME), 2);
    // Zigzag: 8 is sent as 16.
    assert_eq!(request(&fake, command::DISCONNECT_ID, &[8, 16])[5..], [8, 1]);
    assert_eq!(fake.sessions(), [FakeSession::before_login(9)]);
}

#[test]
fn an_unknown_command_closes_the_connection() {
    let (fake, _directory) = fake();
    assert!(request(&fake, 13, DISCONNECT_ALICE).is_empty());
}

#[test]
fn a_lingering_session_is_listed_as_often_as_set() {
    let (fake, _directory) = fake();
    fake.set_linger(2);
    let done = [command::DISCONNECT_NAME_REPLY, 2, 0, 0, 0, 8, 1];
    for lists in [1, 0] {
        assert_eq!(
            request(&fake, command::DISCONNECT_NAME, DISCONNECT_ALICE),
            done,
            "disconnected again"
        );
        let list = request(&fake, command::LIST, &[]);
        let listed = String::from_utf8_lossy(&list).contains("alice");
        assert_eq!(listed, lists > 0);
    }
}

#[test]
fn a_session_in_its_script_is_connected_after_as_many_queries_as_set() {
    let (fake, _directory) = fake();
    fake.set_sessions(vec![FakeSession::in_script(8, "alice")]);
    fake.set_script(2);
    for state in [1, 1, 4] {
        request(&fake, command::ID_INFO, &[8, 16]);
        assert_eq!(fake.sessions()[0].state, state);
    }
}

#[test]
fn a_newer_release_supports_terminate_and_reports_the_start_of_a_login() {
    let (fake, _directory) = fake();
    let id = "493QXRGitRB0evhV9UecXq8PDMo=";
    fake.set_logins(vec![FakeLogin::detached(id, "carol")]);
    let terminate = [&[10, 28], id.as_bytes()].concat();
    let with_nul = [&[10, 29], id.as_bytes(), b"\0"].concat();
    let list = request(&fake, command::LIST, &[]);
    fake.restart_as(Release::V1_4_1);
    assert!(request(&fake, command::LIST, &[]).len() > list.len());
    assert!(request(&fake, command::TERMINATE_SESSION, &terminate).is_empty());
    assert!(String::from_utf8_lossy(&request(&fake, command::LIST_COOKIES, &[])).contains("carol"));
    fake.restart_as(Release::V1_4_2);
    assert_eq!(request(&fake, command::TERMINATE_SESSION, &with_nul)[5..], [8, 0]);
    assert!(fake.terminated().is_empty());
    assert_eq!(
        request(&fake, command::TERMINATE_SESSION, &terminate)[5..],
        [8, 1]
    );
    assert_eq!(
        request(&fake, command::TERMINATE_SESSION, &terminate)[5..],
        [8, 0]
    );
    assert_eq!(request(&fake, command::LIST_COOKIES, &[]).len(), 5, "no entry");
    assert_eq!(fake.terminated().len(), 2);
    assert_eq!(
        request(&fake, command::TERMINATE_USER, DISCONNECT_ALICE)[5..],
        [8, 1]
    );
}

#[test]
fn a_fault_replaces_the_reply_until_it_is_removed() {
    let (fake, _directory) = fake();
    let whole = request(&fake, command::STATUS, &[]);
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
        assert_eq!(request(&fake, command::STATUS, &[]), reply, "{fault:?}");
    }
    fake.set_fault(None);
    assert_eq!(request(&fake, command::STATUS, &[]), whole);
}

#[test]
fn recorded_bytes_are_sent_unchanged() {
    let (fake, _directory) = fake();
    fake.replay(command::LIST, b"anything".to_vec());
    assert_eq!(request(&fake, command::LIST, &[]), b"anything");
}
