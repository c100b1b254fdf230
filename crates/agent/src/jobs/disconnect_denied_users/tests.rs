use testkit::fake_control::{FakeControl, Fault, command};

use super::*;
use crate::fixture;

#[tokio::test]
async fn an_ocserv_that_hangs_delays_no_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
    fake.set_fault(Some(Fault::Hang));
    let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
    let (ocserv, recorder) = (fixture::ocserv(fake.path()), fixture::recorder());
    let disconnect_user = DisconnectUser::new(ocserv, recorder, authorizer.clone(), None);
    let (queue, requests) = DisconnectQueue::new();
    for user in ["alice", "bob", "carol"] {
        queue.push(DisconnectRequest {
            username: Username::parse(user).unwrap(),
            reason: "left".to_owned(),
        });
    }
    let metrics = Metrics::new("a1").unwrap();
    let work = disconnect_denied_users(requests, disconnect_user, metrics, CancellationToken::new());
    let revoked = async {
        while authorizer.stats().cache.denied_users < 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = work => panic!("the queue is open"),
        () = revoked => assert_eq!(fake.count(command::DISCONNECT_ID), 0),
        () = sleep(Duration::from_secs(4)) => panic!("a user is not revoked while ocserv hangs"),
    }
}
