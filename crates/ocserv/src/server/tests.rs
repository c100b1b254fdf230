use std::path::Path;

use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Fault, Release, Terminated, command};

use super::*;

mod mass;

/// Another cookie than the one of [`FakeSession::connected`].
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
    let ocserv = Ocserv::new(Settings {
        socket: dir.join("occtl.sock"),
        request_timeout: Duration::from_secs(5),
        agent_id: "a1".to_owned(),
    });
    fake.set_sessions(vec![alice(), bob()]);
    (fake, ocserv)
}

async fn disconnect(ocserv: &Ocserv, id: i32) -> Result<bool, ControlError> {
    let sessions = ocserv.sessions().await?;
    let session = sessions.iter().find(|session| session.id.get() == id).unwrap();
    let confirmed = ocserv.confirm(session).await?.unwrap();
    ocserv.disconnect(&confirmed).await
}

#[tokio::test]
async fn a_cookie_is_invalidated_after_its_session_ended_so_that_its_byte_counts_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_linger(3);
    fake.set_logins(vec![FakeLogin::detached(&alice().safe_id, "alice")]);
    assert!(disconnect(&ocserv, 7).await.unwrap());
    let login = Terminated {
        safe_id: alice().safe_id,
        connected: false,
    };
    assert_eq!(fake.terminated(), [login]);
    assert!(fake.count(command::LIST) > 3);
    assert_eq!(fake.sessions(), [bob()]);
}

#[tokio::test]
async fn a_session_that_does_not_disconnect_is_terminated() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let ocserv = Ocserv {
        gone_timeout: Duration::from_millis(200),
        ..ocserv
    };
    fake.set_linger(u32::MAX);
    assert!(disconnect(&ocserv, 7).await.unwrap());
    assert!(fake.terminated()[0].connected);
    assert_eq!(fake.sessions(), [bob()]);
}

#[tokio::test]
async fn an_older_ocserv_is_sent_no_request_that_it_does_not_support() {
    let dir = tempfile::tempdir().unwrap();
    for (release, probes) in [(Release::V1_1_6, 0), (Release::V1_4_1, 1)] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let (fake, ocserv) = ocserv(dir.path(), release);
        fake.set_linger(1);
        fake.set_logins(vec![FakeLogin::detached(OTHER, "alice")]);
        assert!(disconnect(&ocserv, 7).await.unwrap());
        assert!(disconnect(&ocserv, 8).await.unwrap());
        fake.set_sessions(vec![alice()]);
        assert_eq!(
            ocserv.invalidate_detached_cookies(&name("alice")).await.unwrap(),
            0
        );
        assert_eq!(fake.count(command::TERMINATE_USER), probes, "{release:?}");
        assert_eq!(fake.count(command::TERMINATE_SESSION), 0, "{release:?}");
    }
}

#[tokio::test]
async fn support_for_terminate_is_probed_once_per_start_of_ocserv() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_1);
    assert!(disconnect(&ocserv, 7).await.unwrap());
    fake.set_sessions(vec![alice()]);
    assert!(disconnect(&ocserv, 7).await.unwrap());
    assert_eq!(fake.count(command::TERMINATE_USER), 1);
    assert!(fake.terminated().is_empty());

    fake.restart_as(Release::V1_4_2);
    fake.set_sessions(vec![alice(), bob()]);
    assert!(disconnect(&ocserv, 7).await.unwrap());
    assert!(disconnect(&ocserv, 8).await.unwrap());
    assert_eq!(fake.count(command::TERMINATE_USER), 2);
    assert_eq!(fake.terminated().len(), 2);
    // Of the probe that found no support; no disconnect costs a further request.
    assert_eq!(fake.count(command::STATUS), 1);
}

#[tokio::test]
async fn a_reused_id_is_not_confirmed_as_the_earlier_session() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let session = ocserv.sessions().await.unwrap().remove(0);
    assert_eq!(session.id.get(), 7);
    let mut later = alice();
    later.connected_at += 1;
    fake.set_sessions(vec![later.clone()]);
    assert!(ocserv.confirm(&session).await.unwrap().is_none());
    assert_eq!(fake.sessions(), [later]);
    assert!(fake.terminated().is_empty());
}

#[tokio::test]
async fn a_disconnect_succeeds_when_its_cookie_cannot_be_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    // Replaces the reply by one that cannot be decoded.
    fake.replay(command::TERMINATE_SESSION, b"nonsense".to_vec());
    assert!(disconnect(&ocserv, 7).await.unwrap());
    assert_eq!(fake.sessions(), [bob()]);
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

#[tokio::test]
async fn only_the_detached_cookies_of_one_user_are_invalidated() {
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
    assert_eq!(
        ocserv.invalidate_detached_cookies(&name("alice")).await.unwrap(),
        2
    );
    let terminated = fake.terminated();
    let invalidated: Vec<_> = terminated.iter().map(|login| login.safe_id.as_str()).collect();
    assert_eq!(invalidated, [OTHER, THIRD]);
    assert_eq!(fake.sessions().len(), 2, "no session is disconnected");
}

#[tokio::test]
async fn a_user_without_a_detached_cookie_costs_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    assert_eq!(
        ocserv.invalidate_detached_cookies(&name("alice")).await.unwrap(),
        0
    );
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn an_unavailable_ocserv_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_fault(Some(Fault::Refuse));
    assert!(ocserv.invalidate_detached_cookies(&name("alice")).await.is_err());
}

/// ocserv's reply "not carried out" to the request with this reply number.
fn declined(reply: u8) -> Vec<u8> {
    vec![reply, 2, 0, 0, 0, 0x08, 0x00]
}

#[tokio::test]
async fn a_disconnect_that_ocserv_declines_while_the_session_stays_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.replay(command::DISCONNECT_ID, declined(command::DISCONNECT_ID_REPLY));
    let error = disconnect(&ocserv, 7).await.unwrap_err();
    assert_eq!(error.to_string(), "ocserv did not carry out disconnect id");

    // The session ends in between.
    let session = ocserv.sessions().await.unwrap().remove(0);
    let confirmed = ocserv.confirm(&session).await.unwrap().unwrap();
    fake.set_sessions(Vec::new());
    assert!(!ocserv.disconnect(&confirmed).await.unwrap());
}

#[tokio::test]
async fn a_detached_cookie_that_ocserv_declines_to_invalidate_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_logins(vec![FakeLogin::detached(OTHER, "alice")]);
    fake.replay(
        command::TERMINATE_SESSION,
        declined(command::TERMINATE_SESSION_REPLY),
    );
    let alice = name("alice");
    let error = ocserv.invalidate_detached_cookies(&alice).await.unwrap_err();
    assert_eq!(error.to_string(), "ocserv did not carry out terminate session");
}
