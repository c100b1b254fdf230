use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::Ordering;

use authz::Authorizer;
use ocserv_agent_model::Decision;
use testkit::fake_control::{FakeControl, FakeLogin, FakeSession, Fault, Release, command};
use testkit::wait::{BOUND, until};
use tls::Peer;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::*;
use crate::clock;
use crate::fixture::{self, AllowingPortal, login};
use crate::live::Live;
use crate::operations::store_status::StoreStatus;

/// The service with its ocserv and policy source.
struct Harness {
    fake: FakeControl,
    portal: AllowingPortal,
    authorizer: Authorizer,
    store: StoreStatus,
    service: VpnAgent,
}

impl Harness {
    /// Creates the service in fail mode `open`, with a disk that stores everything at once.
    fn new(dir: &Path, sessions: Vec<FakeSession>) -> Self {
        let harness = Self::with_disk_of_the_test(dir, sessions);
        let store = harness.store.clone();
        TaskTracker::new().spawn(async move {
            loop {
                store.requested().await;
                store.set_stored(store.requests());
            }
        });
        harness
    }

    /// Creates the service; the test stores what is to be stored.
    fn with_disk_of_the_test(dir: &Path, sessions: Vec<FakeSession>) -> Self {
        let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
        fake.set_sessions(sessions);
        let portal = AllowingPortal::default();
        let authorizer = fixture::authorizer(portal.clone());
        let ocserv = fixture::ocserv(fake.path());
        let store = StoreStatus::new("the decision store");
        let operations = Operations::new(&ocserv, &fixture::recorder(), &authorizer, Some(store.clone()));
        let roles = BTreeMap::from([("portal.example".parse().unwrap(), Role::Operator)]);
        let service = VpnAgent::new(operations, Roles::new(Live::fixed(roles)), TaskTracker::new());
        Self {
            fake,
            portal,
            authorizer,
            store,
            service,
        }
    }

    async fn decide(&self, id: i32) -> Decision {
        let login = login(id, "alice");
        let deadline = clock::now() + Duration::from_secs(3);
        self.authorizer.decide(&login, deadline).await
    }

    fn disconnect(
        &self,
        all: bool,
    ) -> impl Future<Output = Result<Response<DisconnectUserResponse>, Status>> + Send + 'static {
        self.disconnect_user("alice", all)
    }

    fn disconnect_user(
        &self,
        username: &str,
        all: bool,
    ) -> impl Future<Output = Result<Response<DisconnectUserResponse>, Status>> + Send + 'static {
        let mut request = Request::new(DisconnectUserRequest {
            username: username.to_owned(),
            reason: "offboarded".to_owned(),
            disconnect_all_sessions: all,
        });
        request.extensions_mut().insert(Arc::new(Peer {
            names: vec!["portal.example".parse().unwrap()],
            common_name: None,
        }));
        let service = self.service.clone();
        async move { service.disconnect_user(request).await }
    }

    /// Whether a login of the user is allowed while the portal is down.
    async fn is_allowed_in_outage(&self) -> bool {
        self.portal.is_down.store(true, Ordering::SeqCst);
        self.decide(99).await.verdict.is_allow()
    }
}

#[tokio::test]
async fn an_admitted_login_is_disconnected_and_the_user_is_denied_in_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(
        dir.path(),
        vec![
            FakeSession::connected(7, "alice"),
            FakeSession::in_script(9, "alice"),
            FakeSession::in_script(10, "alice"),
        ],
    );
    harness.fake.set_script(2);
    assert!(harness.decide(9).await.verdict.is_allow());
    let response = harness.disconnect(true).await.unwrap().into_inner();
    assert_eq!(
        (response.success, response.sessions_disconnected),
        (true, 2),
        "{response:?}"
    );
    let remaining: Vec<i32> = harness.fake.sessions().iter().map(|session| session.id).collect();
    assert_eq!(remaining, [10], "this login is not decided yet");
    assert!(!harness.is_allowed_in_outage().await);
}

#[tokio::test]
async fn a_rejected_call_disconnects_and_revokes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let two = vec![
        FakeSession::connected(7, "alice"),
        FakeSession::connected(8, "alice"),
    ];
    let harness = Harness::new(dir.path(), two.clone());
    let response = harness.disconnect(false).await.unwrap().into_inner();
    assert!(response.error_message.contains("disconnect_all_sessions"));
    assert!(!response.success);
    assert_eq!(harness.fake.sessions(), two);
    assert!(harness.is_allowed_in_outage().await);
}

#[tokio::test]
async fn a_user_without_a_session_is_revoked_and_the_response_reports_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path(), vec![FakeSession::connected(7, "bob")]);
    let response = harness.disconnect(true).await.unwrap().into_inner();
    assert!(!response.success);
    assert_eq!(response.error_message, "the user has no session");
    assert!(!harness.is_allowed_in_outage().await);
}

#[tokio::test]
async fn a_user_is_revoked_although_ocserv_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path(), Vec::new());
    harness.fake.set_fault(Some(Fault::Refuse));
    let status = harness.disconnect(true).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!harness.is_allowed_in_outage().await);
}

#[tokio::test]
async fn a_request_that_ocserv_declines_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path(), vec![FakeSession::connected(7, "alice")]);
    let declined = |reply: u8| vec![reply, 2, 0, 0, 0, 0x08, 0x00];
    let reply = declined(command::DISCONNECT_ID_REPLY);
    harness.fake.replay(command::DISCONNECT_ID, reply);
    let response = harness.disconnect(true).await.unwrap().into_inner();
    assert_eq!((response.success, response.sessions_disconnected), (false, 0));
    assert_eq!(
        response.error_message,
        "could not disconnect session 7: ocserv did not carry out disconnect id"
    );

    let detached = FakeLogin::detached("ZR2mUoV7l2Xa7EPA4c1nqqLBX8Q=", "alice");
    harness.fake.set_sessions(Vec::new());
    harness.fake.set_logins(vec![detached]);
    harness.fake.restart_as(Release::V1_4_2);
    let reply = declined(command::TERMINATE_SESSION_REPLY);
    harness.fake.replay(command::TERMINATE_SESSION, reply);
    let response = harness.disconnect(true).await.unwrap().into_inner();
    assert!(!response.success);
    assert_eq!(
        response.error_message,
        "could not invalidate the user's cookies: ocserv did not carry out terminate session"
    );
}

#[tokio::test]
async fn a_disconnect_whose_caller_cancels_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let harness = Harness::new(dir.path(), vec![login]);
    harness.decide(9).await;
    let call = TaskTracker::new().spawn(harness.disconnect(true));
    let fake = Arc::new(harness.fake);
    wait_for(&fake, |fake| fake.count(command::ID_INFO) >= 3).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    fake.set_script(0);
    wait_for(&fake, |fake| fake.sessions().is_empty()).await;
}

#[tokio::test]
async fn every_user_is_revoked_at_once_however_many_cancelled_calls_wait_for_ocserv() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path(), Vec::new());
    harness.fake.set_fault(Some(Fault::Hang));
    for user in 1..=80 {
        let call = TaskTracker::new().spawn(harness.disconnect_user(&format!("user{user}"), true));
        tokio::task::yield_now().await;
        call.abort();
    }
    let denied_users = || harness.authorizer.stats().cache.denied_users;
    let revoked = async {
        while denied_users() < 80 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = timeout(Duration::from_secs(10), revoked).await;
    assert!(in_time.is_ok(), "{} users are revoked", denied_users());
}

#[test]
fn an_audit_line_has_one_session_in_the_singular() {
    let texts = [0, 1, 2].map(sessions);
    assert_eq!(texts, ["0 sessions", "1 session", "2 sessions"]);
}

#[tokio::test]
async fn a_disconnect_is_answered_once_the_revocation_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::with_disk_of_the_test(dir.path(), vec![FakeSession::connected(7, "alice")]);
    let mut call = TaskTracker::new().spawn(harness.disconnect(true));
    let (fake, store) = (Arc::new(harness.fake), harness.store);
    wait_for(&fake, |fake| fake.sessions().is_empty()).await;
    store.requested().await;
    assert!(!call.is_finished(), "nothing is stored yet");
    store.set_stored(store.requests());
    let response = (&mut call).await.unwrap().unwrap().into_inner();
    assert!(response.success, "{response:?}");
}

#[tokio::test]
async fn a_disk_that_fails_or_hangs_keeps_no_session_and_is_in_the_response() {
    let hung = "nothing was written in time";
    for (problem, expected) in [(Some("no space"), "no space"), (None, hung)] {
        let dir = tempfile::tempdir().unwrap();
        let harness = Harness::with_disk_of_the_test(dir.path(), vec![FakeSession::connected(7, "alice")]);
        if let Some(problem) = problem {
            harness.store.set_problem(problem.to_owned());
        }
        let response = harness.disconnect(true).await.unwrap().into_inner();
        assert_eq!(
            (response.success, response.sessions_disconnected),
            (false, 1),
            "{response:?}"
        );
        assert_eq!(
            response.error_message,
            format!(
                "a restart of the agent would lose the revocation: \
                 the decision store does not work: {expected}"
            )
        );
        assert_eq!(harness.fake.sessions(), []);
        assert!(!harness.is_allowed_in_outage().await);
    }
}

async fn wait_for(fake: &Arc<FakeControl>, condition: impl Fn(&FakeControl) -> bool + Send + 'static) {
    let fake = Arc::clone(fake);
    let wait = move || until("the fake's state", BOUND, || condition(&fake).then_some(()));
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
}
