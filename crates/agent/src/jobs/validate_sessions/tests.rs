use std::sync::Arc;

use arc_swap::ArcSwap;
use policy::Policy;
use testkit::fake_control::{FakeControl, FakeSession, Release, command};
use testkit::wait::{BOUND, until};

use super::*;
use crate::fixture;

const COUNT: i32 = 60;

/// Validates the sessions of `fake` by a policy, until the guard is dropped.
fn validator(fake: &FakeControl, policy: &str, interval: Duration) -> SessionValidator {
    let ocserv = fixture::ocserv(fake.path());
    let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
    let policy = Policy::parse(policy, "test").unwrap();
    SessionValidator {
        disconnect_user: DisconnectUser::new(ocserv.clone(), fixture::recorder(), authorizer, None),
        recorder: fixture::recorder(),
        ocserv,
        policy: PolicyBackend::Embedded(Arc::new(ArcSwap::from_pointee(policy))),
        metrics: Metrics::new("a1").unwrap(),
        interval,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_sessions_are_asked_to_end_without_waiting_for_the_end_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
    fake.restart_as(Release::V1_4_2);
    let session = |id| FakeSession {
        safe_id: format!("{id:027}="),
        ..FakeSession::connected(id, "alice")
    };
    fake.set_sessions((1..=COUNT).map(session).collect());
    // No session ends by itself: each disconnect takes its longest time, 5 s.
    fake.set_linger(u32::MAX);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let validator = validator(
        &fake,
        "version = 1\ndefault = \"deny\"\n",
        Duration::from_millis(100),
    );
    let (sender, passes) = mpsc::channel(1);
    let pass = SessionsPass {
        start: clock::now(),
        sessions: validator.ocserv.sessions().await.unwrap(),
        updates: Vec::new(),
    };
    assert!(sender.try_send(pass).is_ok());
    tasks.spawn(validator.run(passes, tasks.clone(), stop.clone()));
    until("the end of every session", BOUND, || {
        fake.sessions().is_empty().then_some(())
    })
    .unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let requests: Vec<u8> = fake.requests().iter().map(|request| request.command).collect();
    let first_end = requests
        .iter()
        .position(|command| *command == command::TERMINATE_SESSION)
        .unwrap();
    let asked = requests[..first_end]
        .iter()
        .filter(|command| **command == command::DISCONNECT_ID)
        .count();
    assert!(
        asked >= COUNT as usize,
        "{asked} were asked before the first ended"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_policy_validates_a_session_by_its_virtual_host() {
    const POLICY: &str = r#"
        version = 1
        default = "allow"
        rules = [{ verdict = "deny", vhosts = ["guests.example.com"] }]
    "#;
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
    let session = |(id, vhost): (i32, &str)| FakeSession {
        vhost: vhost.to_owned(),
        ..FakeSession::connected(id, "alice")
    };
    let sessions = [(1, "default"), (2, "guests.example.com"), (3, "a/b")];
    fake.set_sessions(sessions.map(session).into());
    let validator = validator(&fake, POLICY, Duration::from_millis(100));
    let listed = validator.ocserv.sessions().await.unwrap();
    let mut validities = Vec::new();
    for session in &listed {
        validities.push(validator.policy.validate(session, clock::wall()).await);
    }
    assert_eq!(
        validities,
        [
            SessionValidity::Valid,
            SessionValidity::Revoked("denied by policy".to_owned()),
            SessionValidity::Unknown("its virtual host contains a slash".to_owned()),
        ]
    );
}
