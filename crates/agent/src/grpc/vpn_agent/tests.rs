use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Mutex;

use authz::{Answer, Check, Observer, Parts, PolicySource, SourceError};
use occtl::ControlSocket;
use ocserv_agent_model::{Decision, Grant, Login, Source, Verdict};
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};
use testkit::wait::{BOUND, until};
use tls::Peer;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock;
use crate::config::tests::{ConfigDir, MINIMAL};
use crate::example::login;
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;
use crate::pipeline;

/// A portal that lets everyone in while it is there.
#[derive(Default)]
struct Portal {
    is_gone: Mutex<bool>,
}

impl PolicySource for Portal {
    fn source(&self) -> Source {
        Source::Portal
    }

    fn check<'a>(&'a self, _: &'a Login, _: tokio::time::Instant) -> Check<'a> {
        let is_gone = *self.is_gone.lock().unwrap();
        Box::pin(async move {
            if is_gone {
                return Err(SourceError::Outage("gone".to_owned()));
            }
            let verdict = Verdict::Allow(Grant::default());
            Ok(Answer { verdict, ttl: None })
        })
    }
}

/// The service, and everything around it.
struct Rig {
    fake: FakeControl,
    portal: Arc<Portal>,
    service: VpnAgent,
}

impl Rig {
    /// In mode `open`.
    fn new(dir: &Path, sessions: Vec<FakeSession>) -> Self {
        let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
        fake.set_sessions(sessions);
        let portal = Arc::new(Portal::default());
        let place = ConfigDir::new();
        let config = crate::config::load(&place.write(MINIMAL), []).unwrap();
        let settings = authz::Settings {
            fail_mode: resilience::FailMode::Open,
            ..pipeline::settings(&config)
        };
        let parts = Parts {
            source: Arc::clone(&portal) as Arc<dyn PolicySource>,
            clock: pipeline::clock(),
            observer: Observer::new(drop),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let control = ControlSocket::new(fake.path().to_owned(), Duration::from_secs(5));
        let roles = BTreeMap::from([("portal.example".to_owned(), Role::Operator)]);
        let service = VpnAgent::new(
            Ocserv::new(
                control,
                "a1",
                Arc::new(SessionRecorder::new("a1", None, Metrics::new("a1").unwrap())),
            ),
            Authorizer::new(parts, settings),
            Arc::new(Roles::new(roles)),
            TaskTracker::new(),
        );
        Self {
            fake,
            portal,
            service,
        }
    }

    async fn decide(&self, id: i32) -> Decision {
        let login = login(id, "alice");
        let by = clock::now() + Duration::from_secs(3);
        self.service.authorizer.decide(&login, by).await
    }

    fn disconnect(
        &self,
        all: bool,
    ) -> impl Future<Output = Result<Response<DisconnectUserResponse>, Status>> + Send + 'static {
        let mut request = Request::new(DisconnectUserRequest {
            username: "alice".to_owned(),
            reason: "left".to_owned(),
            disconnect_all_sessions: all,
        });
        request.extensions_mut().insert(Arc::new(Peer {
            names: vec!["portal.example".to_owned()],
            common_name: None,
        }));
        let service = self.service.clone();
        async move { service.disconnect_user(request).await }
    }

    /// Whether she is let in while the portal is gone.
    async fn outage_lets_in(&self) -> bool {
        *self.portal.is_gone.lock().unwrap() = true;
        self.decide(99).await.verdict.is_allow()
    }
}

#[tokio::test]
async fn a_login_whose_allow_is_on_its_way_is_caught_and_an_outage_keeps_her_out() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(
        dir.path(),
        vec![
            FakeSession::connected(7, "alice"),
            FakeSession::in_script(9, "alice"),
            FakeSession::in_script(10, "alice"),
        ],
    );
    rig.fake.set_script(2);
    assert!(rig.decide(9).await.verdict.is_allow());
    let response = rig.disconnect(true).await.unwrap().into_inner();
    assert_eq!(
        (response.success, response.sessions_disconnected),
        (true, 2),
        "{response:?}"
    );
    let left: Vec<i32> = rig.fake.sessions().iter().map(|session| session.id).collect();
    assert_eq!(left, [10], "nobody has let this login in yet: it is decided anew");
    assert!(!rig.outage_lets_in().await);
}

#[tokio::test]
async fn a_call_that_is_refused_throws_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let two = vec![
        FakeSession::connected(7, "alice"),
        FakeSession::connected(8, "alice"),
    ];
    let rig = Rig::new(dir.path(), two.clone());
    let response = rig.disconnect(false).await.unwrap().into_inner();
    assert!(response.error_message.contains("disconnect_all_sessions"));
    assert!(!response.success);
    assert_eq!(rig.fake.sessions(), two);
    assert!(rig.outage_lets_in().await);
}

#[tokio::test]
async fn who_has_no_session_is_thrown_out_all_the_same_and_the_caller_learns_that_there_was_none() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), vec![FakeSession::connected(7, "bob")]);
    let response = rig.disconnect(true).await.unwrap().into_inner();
    assert!(!response.success);
    assert_eq!(response.error_message, "the user has no session");
    assert!(!rig.outage_lets_in().await);
}

#[tokio::test]
async fn who_is_thrown_out_is_kept_out_although_ocserv_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), Vec::new());
    rig.fake.set_fault(Some(Fault::Refuse));
    let status = rig.disconnect(true).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!rig.outage_lets_in().await);
}

#[tokio::test]
async fn what_a_caller_began_and_does_not_wait_for_is_done_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let login = FakeSession::in_script(9, "alice");
    let rig = Rig::new(dir.path(), vec![login]);
    rig.decide(9).await;
    let call = TaskTracker::new().spawn(rig.disconnect(true));
    let fake = Arc::new(rig.fake);
    let looked = wait_for(&fake, |fake| fake.count(command::ID_INFO) >= 3);
    looked.await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    fake.set_script(0);
    wait_for(&fake, |fake| fake.sessions().is_empty()).await;
}

async fn wait_for(fake: &Arc<FakeControl>, is_so: impl Fn(&FakeControl) -> bool + Send + 'static) {
    let fake = Arc::clone(fake);
    let waiting =
        tokio::task::spawn_blocking(move || until("the fake", BOUND, || is_so(&fake).then_some(())));
    waiting.await.unwrap().unwrap();
}
