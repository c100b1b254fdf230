use ocserv_agent_model::{Event, EventKind};
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};
use testkit::wait::{BOUND, until};
use tokio_util::task::TaskTracker;

use super::*;
use crate::fixture;
use crate::metrics::Metrics;
use crate::operations::shared_outbox::SharedOutbox;

const SETTINGS: ReconcileSettings = ReconcileSettings {
    poll_interval: Duration::from_millis(20),
    sync_interval: Duration::from_millis(100),
    ttl: Duration::from_hours(1),
    idle_after: Duration::from_mins(1),
};

/// A running job and what it reports.
struct Harness {
    fake: FakeControl,
    outbox: SharedOutbox,
    recorder: Arc<SessionRecorder>,
    passes: mpsc::Receiver<SessionsPass>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _dir: tempfile::TempDir,
}

fn start(sessions: Vec<FakeSession>, settings: ReconcileSettings) -> Harness {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
    fake.set_sessions(sessions);
    let outbox = SharedOutbox::without_disk();
    let recorder = SessionRecorder::new("a1", Some(outbox.clone()), Metrics::new("a1").unwrap());
    let recorder = Arc::new(recorder);
    let (sender, passes) = mpsc::channel(1);
    let ocserv = fixture::ocserv(fake.path());
    let reconciler = Reconciler::new(ocserv, Arc::clone(&recorder), None, settings, sender);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(reconciler.run(
        ValidationRequest::default(),
        Notifications::default(),
        stop.clone(),
    ));
    Harness {
        tasks,
        fake,
        outbox,
        recorder,
        passes,
        stop,
        _dir: dir,
    }
}

impl Harness {
    async fn wait(&self, what: &str, mut is_reached: impl FnMut(&Self) -> bool) {
        tokio::task::block_in_place(|| until(what, BOUND, || is_reached(self).then_some(()))).unwrap();
    }

    fn events(&self) -> Vec<Event> {
        self.outbox.in_memory()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ocserv_is_asked_again_after_a_failure_and_no_session_ends_meanwhile() {
    let harness = start(vec![FakeSession::connected(7, "alice")], SETTINGS);
    harness
        .wait("the session", |harness| harness.recorder.live_count() == 1)
        .await;
    harness.fake.set_fault(Some(Fault::Refuse));
    let asked = harness.fake.count(command::LIST);
    harness
        .wait("three lists", |harness| {
            harness.fake.count(command::LIST) >= asked + 3
        })
        .await;
    assert_eq!(harness.recorder.live_count(), 1);
    assert_eq!(harness.events().len(), 1);
    harness.fake.set_fault(None);
    harness.fake.set_sessions(Vec::new());
    harness
        .wait("its end", |harness| harness.recorder.live_count() == 0)
        .await;
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_an_ocserv_that_does_not_answer_end_after_the_ttl() {
    let settings = ReconcileSettings {
        ttl: Duration::from_secs(1),
        ..SETTINGS
    };
    let harness = start(vec![FakeSession::connected(7, "alice")], settings);
    harness
        .wait("the session", |harness| harness.recorder.live_count() == 1)
        .await;
    harness.fake.set_fault(Some(Fault::Refuse));
    harness
        .wait("its end", |harness| harness.recorder.live_count() == 0)
        .await;
    let ended = harness.events().pop().unwrap();
    assert!(matches!(ended.kind, EventKind::Disconnected(_)), "{ended:?}");
    assert!(ended.reconciled.unwrap().time_accuracy >= settings.ttl);
    harness.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_has_every_connected_session_and_says_when_its_usage_is_unknown() {
    let mut harness = start(vec![FakeSession::connected(7, "alice")], SETTINGS);
    let pass = timeout(BOUND, harness.passes.recv()).await.unwrap().unwrap();
    assert_eq!(pass.sessions.len(), 1);
    let EventKind::Updated(update) = &pass.updates[0].kind else {
        panic!("{:?}", pass.updates)
    };
    assert_eq!(update.usage, None, "the fake has no devices");
    harness.end().await;
}
