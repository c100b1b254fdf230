use std::fs;

use ocserv_agent_model::{
    DisconnectReason, Disconnected, Event, EventId, EventKind, OcservId, SessionUid, Username,
};
use outbox::{AttemptId, AttemptResult, Next};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock;

/// Longest time that a test waits.
const BOUND: Duration = Duration::from_secs(30);

fn event(number: i32) -> Event {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", id, 1_700_000_000);
    let kind = EventKind::Disconnected(Disconnected {
        at: std::time::UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    }
}

/// A running writer.
struct Harness {
    outbox: SharedOutbox,
    /// `None` while the store does not work.
    rows: Option<StoredRows>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Harness {
    async fn start(directory: &Path) -> Self {
        let outbox = SharedOutbox::new(u64::MAX);
        let metrics = Metrics::new("a1").unwrap();
        let (persistence, mut receiver) = EventPersistence::start(directory, "a1", outbox.clone(), metrics);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        tracker.spawn(persistence.run(stop.clone()));
        let mut rows = None;
        while rows.is_none() && outbox.status().problem().is_none() {
            sleep(Duration::from_millis(1)).await;
            rows = receiver.try_recv().ok();
        }
        Self {
            outbox,
            rows,
            tracker,
            stop,
        }
    }

    async fn append(&self, number: i32) -> Result<(), String> {
        let durable = self
            .outbox
            .durable([event(number)], Vec::new(), clock::now() + BOUND);
        durable.await.map_err(|error| error.to_string())
    }

    /// The next event that may be sent.
    async fn next(&self) -> (i32, AttemptId) {
        timeout(BOUND, async {
            loop {
                if let Next::Send(attempt) = self.outbox.next(clock::now()) {
                    return (attempt.event.id.get(), attempt.id);
                }
                self.outbox.sendable().await;
            }
        })
        .await
        .unwrap()
    }

    async fn deliver(&self) -> i32 {
        let (number, attempt) = self.next().await;
        self.outbox.settle(attempt, AttemptResult::Delivered);
        number
    }

    /// Stops the writer; returns the rows that it had found.
    async fn shut_down(self) -> StoredRows {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        assert!(self.outbox.status().is_complete());
        self.rows.unwrap_or_default()
    }
}

#[tokio::test]
async fn what_was_appended_and_not_delivered_is_there_after_a_restart_with_its_rows() {
    let dir = TempDir::new().unwrap();
    let first = Harness::start(dir.path()).await;
    let key = |name: &str| SessionKey(name.as_bytes().to_vec());
    let rows = vec![
        (key("a"), Some(b"one".to_vec())),
        (key("b"), Some(b"two".to_vec())),
    ];
    let by = clock::now() + BOUND;
    first
        .outbox
        .durable([event(1), event(2)], rows, by)
        .await
        .unwrap();
    let removed = vec![(key("a"), None)];
    first.outbox.durable([event(3)], removed, by).await.unwrap();
    assert_eq!(first.deliver().await, 1);
    first.outbox.push(event(4));
    first.shut_down().await;

    let second = Harness::start(dir.path()).await;
    assert_eq!(second.outbox.stats().pending, 3);
    assert_eq!([second.deliver().await, second.deliver().await], [2, 3]);
    second.append(5).await.unwrap();
    assert_eq!([second.deliver().await, second.deliver().await], [4, 5]);
    assert_eq!(second.shut_down().await, [(key("b"), b"two".to_vec())]);
    let third = Harness::start(dir.path()).await;
    assert_eq!(third.outbox.stats().pending, 0);
}

#[tokio::test]
async fn a_rejected_event_is_a_dead_letter_and_not_in_the_store() {
    let dir = TempDir::new().unwrap();
    let first = Harness::start(dir.path()).await;
    first.append(1).await.unwrap();
    let (_, attempt) = first.next().await;
    let problem = "no such user".to_owned();
    let retry_at = clock::now().into_std();
    first
        .outbox
        .settle(attempt, AttemptResult::Rejected { problem, retry_at });
    first.shut_down().await;
    let letters = DeadLetters::in_directory(dir.path()).read().unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].problem, "no such user");
    let second = Harness::start(dir.path()).await;
    assert_eq!(second.outbox.stats().pending, 0);
}

#[tokio::test]
async fn without_a_directory_events_are_in_memory_and_are_written_once_there_is_one() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::File::create(&state).unwrap();
    let first = Harness::start(&state).await;
    let error = first.append(1).await.unwrap_err();
    assert!(error.starts_with("the event store does not work: "), "{error}");
    assert_eq!(first.outbox.stats().unsaved, 1);
    assert_eq!(first.next().await.0, 1, "sent without a disk");
    fs::remove_file(&state).unwrap();
    timeout(BOUND, async {
        while first.outbox.status().problem().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    first.append(2).await.unwrap();
    assert_eq!(first.outbox.stats().unsaved, 0);
    first.shut_down().await;
    assert_eq!(Harness::start(&state).await.outbox.stats().pending, 2);
}

#[tokio::test]
async fn many_appends_share_commits() {
    let dir = TempDir::new().unwrap();
    let first = Harness::start(dir.path()).await;
    let appends = (1..=500).map(|number| first.append(number));
    let results = futures_util::future::join_all(appends).await;
    assert!(results.iter().all(Result::is_ok));
    first.shut_down().await;
    assert_eq!(Harness::start(dir.path()).await.outbox.stats().pending, 500);
}

mod outage;
