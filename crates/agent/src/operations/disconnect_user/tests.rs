use std::path::Path;
use std::time::UNIX_EPOCH;

use testkit::fake_control::{FakeControl, FakeSession, Fault, Release, command};

use super::*;
use crate::fixture;

fn alice() -> FakeSession {
    FakeSession::connected(7, "alice")
}

fn bob() -> FakeSession {
    FakeSession::connected(8, "bob")
}

fn operation(dir: &Path, sessions: Vec<FakeSession>) -> (FakeControl, DisconnectUser) {
    let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
    fake.set_sessions(sessions);
    let ocserv = fixture::ocserv(fake.path());
    let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
    let operation = DisconnectUser::new(ocserv, fixture::recorder(), authorizer, None);
    (fake, operation)
}

/// The login of `session`, allowed `after` seconds after its connection was accepted.
fn admitted(session: &FakeSession, after: u64) -> AdmittedLogin {
    AdmittedLogin {
        id: OcservId::new(session.id).unwrap(),
        at: UNIX_EPOCH + Duration::from_secs(u64::from(session.connected_at) + after),
    }
}

async fn disconnect(operation: &DisconnectUser, admitted: &[AdmittedLogin]) -> DisconnectSummary {
    let alice = Username::parse("alice").unwrap();
    let summary = operation.disconnect_connections(&alice, admitted, DisconnectReason::AdminForced);
    summary.await.unwrap()
}

fn commands(fake: &FakeControl) -> Vec<u8> {
    fake.requests().iter().map(|request| request.command).collect()
}

#[tokio::test]
async fn an_admitted_login_is_disconnected_once_it_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, operation) = operation(dir.path(), vec![login.clone(), bob()]);
    fake.set_script(3);
    let summary = disconnect(&operation, &[admitted(&login, 0)]).await;
    assert_eq!((summary.found, summary.disconnected), (1, 1));
    assert_eq!(fake.sessions(), [bob()]);
    // Three while its script runs, one when it is connected, one to confirm its identity.
    let mut expected = vec![command::LIST];
    expected.extend([command::ID_INFO; 5]);
    expected.push(command::DISCONNECT_ID);
    assert_eq!(commands(&fake), expected);
}

#[tokio::test]
async fn a_login_that_is_not_decided_yet_is_not_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let (undecided, bobs) = (
        FakeSession::in_script(9, "alice"),
        FakeSession::in_script(10, "bob"),
    );
    let (fake, operation) = operation(dir.path(), vec![undecided.clone(), bobs.clone(), alice()]);
    // An earlier login with the same id was allowed.
    let mut earlier = admitted(&undecided, 0);
    earlier.at -= Duration::from_secs(1);
    let summary = disconnect(&operation, &[earlier, admitted(&bobs, 1)]).await;
    assert_eq!((summary.found, summary.disconnected), (1, 1));
    assert_eq!(fake.sessions(), [undecided, bobs]);
}

#[tokio::test]
async fn an_admitted_login_that_ends_by_itself_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, operation) = operation(dir.path(), vec![login.clone()]);
    let no_rows = [&[command::LIST_REPLY][..], &0_u32.to_ne_bytes()].concat();
    fake.replay(command::ID_INFO, no_rows);
    let summary = disconnect(&operation, &[admitted(&login, 1)]).await;
    assert_eq!((summary.found, summary.disconnected), (1, 0));
    assert!(summary.pending.is_empty() && summary.failed.is_empty());
}

#[tokio::test]
async fn a_slow_login_is_reported_pending_and_delays_no_disconnect() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let (fake, operation) = operation(dir.path(), vec![login.clone(), alice()]);
    let operation = DisconnectUser {
        connect_timeout: Duration::from_millis(200),
        ..operation
    };
    let summary = disconnect(&operation, &[admitted(&login, 1)]).await;
    assert_eq!((summary.found, summary.disconnected), (2, 1));
    assert_eq!(summary.pending, [OcservId::new(9).unwrap()]);
    assert_eq!(fake.sessions(), [login]);
}

#[tokio::test]
async fn sessions_are_disconnected_concurrently_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let many = (1..=40).map(|id| FakeSession {
        safe_id: format!("{id:A>27}="),
        ..FakeSession::connected(id, "alice")
    });
    let (fake, operation) = operation(dir.path(), many.collect());
    fake.restart_as(Release::V1_4_2);
    fake.set_linger(5);
    let summary = disconnect(&operation, &[]).await;
    assert_eq!((summary.found, summary.disconnected), (40, 40));
    assert_eq!(fake.terminated().len(), 40);
    let commands = commands(&fake).into_iter();
    let before_first_end = commands.take_while(|command| *command != command::TERMINATE_SESSION);
    let disconnects = before_first_end
        .filter(|command| *command == command::DISCONNECT_ID)
        .count();
    assert!((2..=MAX_CONCURRENT).contains(&disconnects), "{disconnects}");
}

#[tokio::test]
async fn an_unavailable_ocserv_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, operation) = operation(dir.path(), vec![alice()]);
    fake.set_fault(Some(Fault::Refuse));
    let alice = Username::parse("alice").unwrap();
    let summary = operation.disconnect_connections(&alice, &[], DisconnectReason::AdminForced);
    assert!(summary.await.is_err());
}

#[tokio::test]
async fn a_revoked_session_ends_before_the_revocation_is_stored_and_the_call_after() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, operation) = operation(dir.path(), vec![alice()]);
    let store = StoreStatus::new("the decision store");
    let operation = DisconnectUser {
        store: Some(store.clone()),
        ..operation
    };
    let session = operation.ocserv.sessions().await.unwrap().remove(0);
    let revoke = operation.run_for_session(&session, DisconnectReason::PolicyViolation, "");
    let disk = async {
        store.requested().await;
        let requests = store.requests();
        while !fake.sessions().is_empty() {
            tokio::task::yield_now().await;
        }
        store.set_stored(requests);
        requests
    };
    let (revoked, requests) = tokio::join!(revoke, disk);
    assert!(revoked.unwrap());
    assert_eq!(requests, 1);
}
