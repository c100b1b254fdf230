use std::path::Path;
use std::sync::Arc;

use occtl::ControlSocket;
use testkit::fake_control::{FakeControl, FakeSession, Fault, Release, command};

use super::*;
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;

fn alice() -> FakeSession {
    FakeSession::connected(7, "alice")
}

fn bob() -> FakeSession {
    FakeSession::connected(8, "bob")
}

fn ocserv(dir: &Path, sessions: Vec<FakeSession>) -> (FakeControl, Ocserv) {
    let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
    fake.set_sessions(sessions);
    let control = ControlSocket::new(dir.join("occtl.sock"), Duration::from_secs(5));
    (
        fake,
        Ocserv::new(
            control,
            "a1",
            Arc::new(SessionRecorder::new("a1", None, Metrics::new("a1").unwrap())),
        ),
    )
}

/// A login that was let in so many seconds after its connection began.
fn let_in(session: &FakeSession, after: u64) -> LetIn {
    LetIn {
        id: OcservId::new(session.id).unwrap(),
        at: UNIX_EPOCH + Duration::from_secs(u64::from(session.connected_at) + after),
    }
}

async fn throw_out(ocserv: &Ocserv, let_in: &[LetIn]) -> ThrownOut {
    let alice = Username::parse("alice").unwrap();
    let out = ocserv.throw_out(&alice, let_in, DisconnectReason::AdminForced);
    out.await.unwrap()
}

fn commands(fake: &FakeControl) -> Vec<u8> {
    fake.requests().iter().map(|request| request.command).collect()
}

#[tokio::test]
async fn a_login_on_its_way_is_ended_as_soon_as_it_is_up_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, ocserv) = ocserv(dir.path(), vec![login.clone(), bob()]);
    fake.set_script(3);
    let out = throw_out(&ocserv, &[let_in(&login, 0)]).await;
    assert_eq!((out.found, out.ended), (1, 1));
    assert_eq!(fake.sessions(), [bob()]);
    // Three looks while its script runs, one that finds it up, one to be sure.
    let mut expected = vec![command::LIST];
    expected.extend([command::ID_INFO; 5]);
    expected.push(command::DISCONNECT_ID);
    assert_eq!(commands(&fake), expected);
}

#[tokio::test]
async fn a_login_that_waits_for_its_answer_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (asks, bobs) = (
        FakeSession::in_script(9, "alice"),
        FakeSession::in_script(10, "bob"),
    );
    let (fake, ocserv) = ocserv(dir.path(), vec![asks.clone(), bobs.clone(), alice()]);
    // She was let in before, under a number that has come to this login.
    let mut earlier = let_in(&asks, 0);
    earlier.at -= Duration::from_secs(1);
    let out = throw_out(&ocserv, &[earlier, let_in(&bobs, 1)]).await;
    assert_eq!((out.found, out.ended), (1, 1));
    assert_eq!(fake.sessions(), [asks, bobs]);
}

#[tokio::test]
async fn a_login_that_goes_away_by_itself_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, ocserv) = ocserv(dir.path(), vec![login.clone()]);
    let nobody = [&[command::LIST_REPLY][..], &0_u32.to_ne_bytes()].concat();
    fake.replay(command::ID_INFO, nobody);
    let out = throw_out(&ocserv, &[let_in(&login, 1)]).await;
    assert_eq!((out.found, out.ended), (1, 0));
    assert!(out.under_way.is_empty() && out.failed.is_empty());
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_named_and_keeps_no_session_from_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, ocserv) = ocserv(dir.path(), vec![login.clone(), alice()]);
    let ocserv = ocserv.patient_for(Duration::from_millis(200));
    let out = throw_out(&ocserv, &[let_in(&login, 1)]).await;
    assert_eq!((out.found, out.ended), (2, 1));
    assert_eq!(out.under_way, [OcservId::new(9).unwrap()]);
    assert_eq!(fake.sessions(), [login]);
}

#[tokio::test]
async fn sessions_end_together_and_not_too_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let many = (1..=40).map(|id| FakeSession {
        safe_id: format!("{id:A>27}="),
        ..FakeSession::connected(id, "alice")
    });
    let (fake, ocserv) = ocserv(dir.path(), many.collect());
    fake.restart_as(Release::V1_4_2);
    fake.set_linger(60);
    let out = throw_out(&ocserv, &[]).await;
    assert_eq!((out.found, out.ended), (40, 40));
    assert_eq!(fake.terminated().len(), 40);
    let commands = commands(&fake).into_iter();
    let before_one_is_gone = commands.take_while(|command| *command != command::TERMINATE_SESSION);
    let ending = before_one_is_gone
        .filter(|command| *command == command::DISCONNECT_ID)
        .count();
    assert!((2..=AT_ONCE).contains(&ending), "{ending}");
}

#[tokio::test]
async fn an_ocserv_that_does_not_answer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), vec![alice()]);
    fake.set_fault(Some(Fault::Refuse));
    let alice = Username::parse("alice").unwrap();
    let out = ocserv.throw_out(&alice, &[], DisconnectReason::AdminForced);
    assert!(out.await.is_err());
}
