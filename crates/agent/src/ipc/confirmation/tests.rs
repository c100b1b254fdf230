use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};

use ocserv_agent_model::{Event, Source};
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};
use tokio::time::timeout;

use super::*;
use crate::fixture::{self, login};
use crate::metrics::Metrics;
use crate::operations::shared_outbox::SharedOutbox;

const CAPACITY: usize = 64;

struct Harness {
    fake: FakeControl,
    recorder: Arc<SessionRecorder>,
    events: SharedOutbox,
    confirmation: Confirmation,
    allows: mpsc::Sender<WrittenAllow>,
    _dir: tempfile::TempDir,
}

/// A confirmation task and an ocserv with `sessions`.
fn harness(sessions: Vec<FakeSession>) -> Harness {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("occtl.sock");
    let fake = FakeControl::start(&path).unwrap();
    fake.set_sessions(sessions);
    let events = SharedOutbox::without_disk();
    let recorder = Arc::new(SessionRecorder::new(
        "a1",
        Some(events.clone()),
        Metrics::new("a1").unwrap(),
    ));
    let ocserv = fixture::ocserv(&path);
    let registrar = SessionRegistrar::new(Arc::clone(&recorder), ocserv);
    let (confirmation, allows) = Confirmation::new(Arc::clone(&recorder), registrar, CAPACITY);
    Harness {
        fake,
        recorder,
        events,
        confirmation,
        allows,
        _dir: dir,
    }
}

fn session(id: i32, name: &str) -> FakeSession {
    FakeSession {
        connected_at: 1_000_000 + id.unsigned_abs(),
        ..FakeSession::connected(id, name)
    }
}

/// A connection and the helper's end of it.
fn connection() -> (Connection, UnixStream) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let helper = UnixStream::connect(&path).unwrap();
    (Connection::accept(&listener).unwrap(), helper)
}

impl Harness {
    /// Queues the allow of a helper that has read it and exited.
    async fn send_allow(&self, id: i32, name: &str) {
        self.send_allow_over(connection().0, id, name).await;
    }

    async fn send_allow_over(&self, connection: Connection, id: i32, name: &str) {
        let login = Arc::new(login(id, name));
        let allow = WrittenAllow {
            connection,
            at: clock::now(),
            session: PendingSession {
                handle: self.recorder.login_started(&login),
                login,
                source: Source::Cache,
            },
        };
        self.allows.send(allow).await.unwrap();
    }

    /// Waits until all allows are registered; returns the uids of their sessions.
    async fn finish(self) -> (FakeControl, Vec<String>) {
        drop(self.allows);
        self.confirmation.run().await;
        let uid = |event: Event| event.uid.to_string();
        (self.fake, self.events.in_memory().into_iter().map(uid).collect())
    }
}

#[tokio::test]
async fn many_allows_cost_one_request_and_each_uid_has_its_connect_time() {
    let harness = harness((1..=20).map(|id| session(id, "alice")).collect());
    for id in 1..=20 {
        harness.send_allow(id, "alice").await;
    }
    let (fake, uids) = harness.finish().await;
    let expected: Vec<_> = (1..=20).map(|id| format!("a1/{id}/{}", 1_000_000 + id)).collect();
    assert_eq!(uids, expected);
    assert_eq!((fake.count(command::LIST), fake.count(command::ID_INFO)), (1, 0));
}

#[tokio::test]
async fn a_few_allows_cost_one_request_each_and_no_list() {
    let harness = harness(vec![session(7, "alice"), session(8, "bob"), session(9, "carol")]);
    harness.send_allow(7, "alice").await;
    harness.send_allow(8, "bob").await;
    let (fake, uids) = harness.finish().await;
    assert_eq!(uids, ["a1/7/1000007", "a1/8/1000008"]);
    assert_eq!((fake.count(command::LIST), fake.count(command::ID_INFO)), (0, 2));
}

#[tokio::test]
async fn an_id_reused_by_another_user_gives_no_connect_time() {
    let harness = harness(vec![session(7, "bob"), session(8, "bob")]);
    for id in [7, 8] {
        harness.send_allow(id, "alice").await;
    }
    let (_fake, uids) = harness.finish().await;
    assert_eq!(uids.len(), 2, "the session is reported anyway");
    let has_bobs_time = |uid: &String| uid.ends_with("/1000007") || uid.ends_with("/1000008");
    assert!(!uids.iter().any(has_bobs_time), "{uids:?}");
}

#[tokio::test]
async fn a_session_is_reported_without_its_connect_time_when_ocserv_hangs() {
    let harness = harness(vec![session(7, "alice")]);
    harness.fake.set_fault(Some(Fault::Hang));
    harness.send_allow(7, "alice").await;
    let finished = timeout(Duration::from_secs(4), harness.finish()).await;
    let (_fake, uids) = finished.expect("the wait is shorter than the socket's own timeout");
    assert_eq!(uids.len(), 1);
    assert_ne!(uids, ["a1/7/1000007"]);
}

#[tokio::test]
async fn a_helper_that_keeps_sending_delays_no_other() {
    let harness = harness(vec![session(7, "alice"), session(8, "bob")]);
    let (connection, mut helper) = connection();
    helper.set_nonblocking(true).unwrap();
    harness.send_allow_over(connection, 7, "alice").await;
    harness.send_allow(8, "bob").await;
    let events = harness.events.clone();
    let sender = std::thread::spawn(move || {
        let start = clock::now();
        while events.in_memory().is_empty() && clock::now() - start < Duration::from_secs(10) {
            // Its buffer is full most of the time.
            let _ = helper.write(&[b' '; 4096]);
            std::thread::yield_now();
        }
        events.in_memory().len()
    });
    let (_fake, uids) = harness.finish().await;
    assert_eq!(
        sender.join().unwrap(),
        1,
        "the other session is registered meanwhile"
    );
    assert_eq!(uids, ["a1/8/1000008", "a1/7/1000007"]);
}

fn pending(recorder: &SessionRecorder, id: i32) -> PendingSession {
    let login = Arc::new(login(id, "alice"));
    PendingSession {
        handle: recorder.login_started(&login),
        login,
        source: Source::Cache,
    }
}

#[test]
fn a_batch_waits_for_the_end_of_a_burst_but_not_for_ever() {
    let recorder = fixture::recorder();
    let start = clock::now();
    let mut batch = Batch::default();
    assert!(!batch.is_complete(start), "nothing to register");

    batch.add(vec![pending(&recorder, 1)], start);
    assert!(!batch.is_complete(start + QUIET_PERIOD / 2));
    assert!(batch.is_complete(start + QUIET_PERIOD), "the burst is over");

    let (mut now, mut id) = (start, 1);
    while now < start + MAX_BATCH_DELAY {
        assert!(!batch.is_complete(now), "{:?} after the first", now - start);
        now += QUIET_PERIOD / 2;
        id += 1;
        batch.add(vec![pending(&recorder, id)], now);
    }
    assert!(
        batch.is_complete(now),
        "the burst goes on, the first has waited long enough"
    );

    assert_eq!(batch.take().len(), usize::try_from(id).unwrap());
    assert!(!batch.is_complete(now + MAX_BATCH_DELAY), "taken");
}
