use std::path::Path;
use std::time::Duration;

use ocserv_agent_model::Username;
use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Fault, Release, Terminated, command};

use super::*;
use crate::metrics::Metrics;

/// Another login than the one of [`FakeSession::connected`].
const OTHER: &str = "ZR2mUoV7l2Xa7EPA4c1nqqLBX8Q=";
const THIRD: &str = "493QXRGitRB0evhV9UecXq8PDMo=";
const BOBS: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBB=";

fn alice() -> FakeSession {
    FakeSession::connected(7, "alice")
}

fn bob() -> FakeSession {
    FakeSession {
        safe_id: BOBS.to_owned(),
        ..FakeSession::connected(8, "bob")
    }
}

fn ocserv(dir: &Path, release: Release) -> (FakeControl, Ocserv) {
    let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
    fake.restart_as(release);
    let control = ControlSocket::new(dir.join("occtl.sock"), Duration::from_secs(5));
    let ocserv = Ocserv::new(
        control,
        "a1",
        Arc::new(SessionRecorder::new("a1", None, Metrics::new("a1").unwrap())),
    );
    fake.set_sessions(vec![alice(), bob()]);
    (fake, ocserv)
}

async fn end(ocserv: &Ocserv, id: i32) -> Result<bool, ControlError> {
    let sessions = ocserv.live().await?;
    let session = sessions.iter().find(|session| session.id.get() == id).unwrap();
    ocserv.end(session, DisconnectReason::AdminForced).await
}

#[tokio::test]
async fn a_login_is_forgotten_once_its_session_is_gone_so_that_its_byte_counts_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_linger(3);
    fake.set_logins(vec![FakeLogin::detached(&alice().safe_id, "alice")]);
    assert!(end(&ocserv, 7).await.unwrap());
    let login = Terminated {
        safe_id: alice().safe_id,
        connected: false,
    };
    assert_eq!(fake.terminated(), [login]);
    assert!(fake.count(command::LIST) > 3);
    assert_eq!(fake.sessions(), [bob()]);
}

#[tokio::test]
async fn a_session_that_does_not_go_is_ended_with_its_login() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let ocserv = ocserv.patient_for(Duration::from_millis(200));
    fake.set_linger(u32::MAX);
    assert!(end(&ocserv, 7).await.unwrap());
    assert!(fake.terminated()[0].connected);
    assert_eq!(fake.sessions(), [bob()]);
}

#[tokio::test]
async fn an_older_ocserv_is_asked_nothing_that_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    for (release, probes) in [(Release::V1_1_6, 0), (Release::V1_4_1, 1)] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let (fake, ocserv) = ocserv(dir.path(), release);
        fake.set_linger(1);
        fake.set_logins(vec![FakeLogin::detached(OTHER, "alice")]);
        assert!(end(&ocserv, 7).await.unwrap());
        assert!(end(&ocserv, 8).await.unwrap());
        fake.set_sessions(vec![alice()]);
        assert_eq!(ocserv.forget_logins(&name("alice")).await.unwrap(), 0);
        assert_eq!(fake.count(command::TERMINATE_USER), probes, "{release:?}");
        assert_eq!(fake.count(command::TERMINATE_SESSION), 0, "{release:?}");
    }
}

#[tokio::test]
async fn what_ocserv_knows_is_asked_once_for_each_start_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_1);
    assert!(end(&ocserv, 7).await.unwrap());
    fake.set_sessions(vec![alice()]);
    assert!(end(&ocserv, 7).await.unwrap());
    assert_eq!(fake.count(command::TERMINATE_USER), 1);
    assert!(fake.terminated().is_empty());

    fake.restart_as(Release::V1_4_2);
    fake.set_sessions(vec![alice(), bob()]);
    assert!(end(&ocserv, 7).await.unwrap());
    assert!(end(&ocserv, 8).await.unwrap());
    assert_eq!(fake.count(command::TERMINATE_USER), 2);
    assert_eq!(fake.terminated().len(), 2);
}

#[tokio::test]
async fn a_session_that_has_ended_by_itself_keeps_whoever_has_its_number_now() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let session = ocserv.live().await.unwrap().remove(0);
    assert_eq!(session.id.get(), 7);
    let mut later = alice();
    later.connected_at += 1;
    fake.set_sessions(vec![later.clone()]);
    assert!(!ocserv.end(&session, DisconnectReason::AdminForced).await.unwrap());
    assert_eq!(fake.sessions(), [later]);
    assert!(fake.terminated().is_empty());
}

#[tokio::test]
async fn a_login_that_cannot_be_forgotten_does_not_hide_that_the_session_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    // Recorded replies come instead of the true ones: this one is no answer to the request.
    fake.replay(command::TERMINATE_SESSION, b"nonsense".to_vec());
    assert!(end(&ocserv, 7).await.unwrap());
    assert_eq!(fake.sessions(), [bob()]);
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

#[tokio::test]
async fn the_logins_of_one_user_without_a_connection_are_forgotten_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let mut in_use = FakeLogin::detached(&alice().safe_id, "alice");
    in_use.in_use = true;
    let mut failed = FakeLogin::detached("AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "alice");
    failed.state = 1;
    let bobs = FakeLogin::detached(BOBS, "bob");
    fake.set_logins(vec![
        in_use,
        FakeLogin::detached(OTHER, "alice"),
        bobs,
        FakeLogin::detached(THIRD, "alice"),
        failed,
    ]);
    assert_eq!(ocserv.forget_logins(&name("alice")).await.unwrap(), 2);
    let terminated = fake.terminated();
    let forgotten: Vec<_> = terminated.iter().map(|login| login.safe_id.as_str()).collect();
    assert_eq!(forgotten, [OTHER, THIRD]);
    assert_eq!(fake.sessions().len(), 2, "no session ends by it");
}

#[tokio::test]
async fn a_user_without_such_a_login_costs_one_question() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    assert_eq!(ocserv.forget_logins(&name("alice")).await.unwrap(), 0);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn an_ocserv_that_does_not_answer_is_an_error_and_not_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_fault(Some(Fault::Refuse));
    assert!(ocserv.forget_logins(&name("alice")).await.is_err());
}

#[tokio::test]
async fn ocserv_is_asked_again_and_again_whether_or_not_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
    fake.set_fault(Some(Fault::Refuse));
    let stop = tokio_util::sync::CancellationToken::new();
    let control = ControlSocket::new(fake.path().to_owned(), Duration::from_secs(5));
    let asked = tokio::task::spawn_blocking(move || {
        testkit::wait::until("three questions", testkit::wait::BOUND, || {
            (fake.count(command::STATUS) >= 3).then_some(())
        })
    });
    let ending = async {
        asked.await.unwrap().unwrap();
        stop.cancel();
    };
    tokio::join!(ending, feel_pulse(control, stop.clone()));
}
