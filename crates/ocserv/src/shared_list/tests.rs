use std::path::Path;

use futures_util::future::join_all;
use occtl::{ControlSocket, Session};
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};

use super::*;

fn fake(dir: &Path) -> (FakeControl, ControlSocket) {
    let path = dir.join("occtl.sock");
    let fake = FakeControl::start(&path).unwrap();
    fake.set_sessions(vec![FakeSession::connected(7, "alice")]);
    (fake, ControlSocket::new(path, Duration::from_secs(5)))
}

async fn get(list: &SharedList<Session>, control: &ControlSocket) -> Result<Arc<[Session]>, ControlError> {
    let control = control.clone();
    list.get(|| async move { control.list().await }.boxed()).await
}

#[tokio::test]
async fn callers_that_wait_share_one_request_and_its_error() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, control) = fake(dir.path());
    let list = SharedList::<Session>::default();
    let replies = join_all((0..100).map(|_| get(&list, &control))).await;
    assert!(replies.iter().all(|rows| rows.as_ref().unwrap().len() == 1));
    assert_eq!(fake.count(command::LIST), 1);
    fake.set_fault(Some(Fault::Refuse));
    let replies = join_all((0..100).map(|_| get(&list, &control))).await;
    assert!(replies.iter().all(Result::is_err));
    assert_eq!(fake.count(command::LIST), 2);
}

#[tokio::test]
async fn a_caller_never_gets_a_list_that_was_requested_before_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, control) = fake(dir.path());
    let list = SharedList::<Session>::default();
    fake.set_fault(Some(Fault::Slow {
        piece: 1,
        pause: Duration::from_millis(1),
    }));
    let mut early = Box::pin(get(&list, &control));
    // Until the fake has made its reply, and is writing it.
    while fake.count(command::LIST) == 0 {
        assert!((&mut early).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    fake.set_sessions(Vec::new());
    assert_eq!(get(&list, &control).await.unwrap().len(), 0);
    assert_eq!(early.await.unwrap().len(), 1);
    assert_eq!(fake.count(command::LIST), 2);
}

#[tokio::test]
async fn a_request_goes_on_without_the_caller_that_started_it_and_ends_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, control) = fake(dir.path());
    let list = SharedList::<Session>::default();
    get(&list, &control).await.unwrap();
    // Both wait for the same turn.
    let mut first = Box::pin(get(&list, &control));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(get(&list, &control));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(second.await.unwrap().len(), 1);
    assert_eq!(fake.count(command::LIST), 2);

    let mut alone = Box::pin(get(&list, &control));
    assert!((&mut alone).now_or_never().is_none());
    drop(alone);
    assert!(list.0.state().waiting.as_ref().unwrap().upgrade().is_none());
    assert_eq!(get(&list, &control).await.unwrap().len(), 1);
    assert_eq!(fake.count(command::LIST), 3);
}
