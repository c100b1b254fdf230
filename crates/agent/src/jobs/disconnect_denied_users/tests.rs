use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authz::{Authorizer, CheckFuture, PolicyAnswer, PolicySource};
use ocserv_agent_model::{DenyCode, Grant, Login, Source, Verdict};
use resilience::Changes;
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};
use tokio::time::timeout;

use super::*;
use crate::clock;
use crate::fixture::{self, login};

/// A portal that is asked about each login, and denies while it should.
#[derive(Clone, Default)]
struct DenyingPortal(Arc<AtomicBool>);

impl PolicySource for DenyingPortal {
    fn source(&self) -> Source {
        Source::Portal
    }

    fn check<'a>(&'a self, _: &'a Login, _: tokio::time::Instant) -> CheckFuture<'a> {
        let verdict = match self.0.load(Ordering::SeqCst) {
            true => Verdict::deny(DenyCode::Policy, "left"),
            false => Verdict::Allow(Grant::default()),
        };
        Box::pin(async move {
            Ok(PolicyAnswer {
                verdict,
                ttl: Some(Duration::ZERO),
                disconnect: false,
            })
        })
    }
}

struct Harness {
    fake: FakeControl,
    portal: DenyingPortal,
    authorizer: Authorizer,
    disconnect_user: DisconnectUser,
    queue: DisconnectQueue,
    requests: DisconnectRequests,
}

impl Harness {
    fn new(dir: &Path) -> Self {
        let fake = FakeControl::start(&dir.join("occtl.sock")).unwrap();
        let portal = DenyingPortal::default();
        let authorizer = fixture::authorizer(portal.clone());
        let (ocserv, recorder) = (fixture::ocserv(fake.path()), fixture::recorder());
        let disconnect_user = DisconnectUser::new(ocserv, recorder, authorizer.clone(), None);
        let (queue, requests) = DisconnectQueue::new();
        Self {
            fake,
            portal,
            authorizer,
            disconnect_user,
            queue,
            requests,
        }
    }

    /// Has the portal decide a login of `user`.
    async fn decide(&self, user: &str, deny: bool) {
        self.portal.0.store(deny, Ordering::SeqCst);
        let deadline = clock::now() + Duration::from_secs(3);
        let decision = self.authorizer.decide(&login(1, user), deadline).await;
        assert_ne!(decision.verdict.is_allow(), deny);
    }

    fn request(&self, user: &str) {
        self.queue.push(DisconnectRequest {
            key: CacheKey::from(&login(1, user)),
            reason: "left".to_owned(),
        });
    }

    /// Works on the requests so far.
    async fn work(self) -> FakeControl {
        drop(self.queue);
        let metrics = Metrics::new("a1").unwrap();
        let stop = CancellationToken::new();
        disconnect_denied_users(self.requests, self.disconnect_user, metrics, stop).await;
        self.fake
    }
}

#[tokio::test]
async fn an_ocserv_that_hangs_delays_no_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path());
    harness.fake.set_fault(Some(Fault::Hang));
    let users: Vec<String> = (1..=80).map(|number| format!("user{number}")).collect();
    for user in &users {
        harness.decide(user, true).await;
        harness.request(user);
    }
    let authorizer = harness.authorizer.clone();
    let mut revoked = 0;
    let all_revoked = async {
        while revoked < users.len() {
            let (Changes::Full(records) | Changes::Partial { put: records, .. }) = authorizer.take_changes();
            let revocations = records.revocations.iter();
            revoked += revocations.filter(|user| user.revoked_at.is_some()).count();
            sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = timeout(Duration::from_secs(4), async {
        tokio::select! {
            _ = harness.work() => panic!("ocserv does not answer"),
            () = all_revoked => {}
        }
    });
    assert!(
        in_time.await.is_ok(),
        "{revoked} of {} users are revoked",
        users.len()
    );
}

#[tokio::test]
async fn a_user_who_was_allowed_again_is_not_disconnected_for_an_earlier_deny() {
    let dir = tempfile::tempdir().unwrap();
    let harness = Harness::new(dir.path());
    let bob = FakeSession::connected(8, "bob");
    let sessions = vec![FakeSession::connected(7, "alice"), bob.clone()];
    harness.fake.set_sessions(sessions);
    for user in ["alice", "bob"] {
        harness.decide(user, true).await;
        harness.request(user);
    }
    harness.decide("bob", false).await;
    let fake = harness.work().await;
    assert_eq!(fake.sessions(), [bob]);
    assert_eq!(fake.count(command::DISCONNECT_ID), 1);
}
