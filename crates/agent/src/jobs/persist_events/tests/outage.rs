//! An hour without a portal, in simulated time: the writer and the delivery together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ocserv_agent_model::Connected;
use portal::{CheckError, ReportError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::jobs::deliver_events::{DeliveryLog, EventDelivery, SendEvent};

const SESSIONS: i32 = 50_000;
/// Events that are reported at once.
const GROUP: i32 = 500;
const OUTAGE: Duration = Duration::from_hours(1);
/// Events that may be in memory: the window, and what is not on disk yet.
const MAX_IN_MEMORY: usize = 4_096 + 2 * 500 + 512;

fn events_of(number: i32) -> [Event; 2] {
    let end = event(number);
    let kind = EventKind::Connected(Connected {
        at: std::time::UNIX_EPOCH,
        client_ip: None,
        vpn_ip: None,
        device: "vpns0".to_owned(),
        group: None,
    });
    let start = Event {
        event_id: EventId::new(&end.uid, &kind),
        kind,
        ..end.clone()
    };
    [start, end]
}

/// The events that the portal has acknowledged, in order.
type Received = Arc<Mutex<Vec<EventId>>>;

/// A portal that is gone until `back`.
fn portal(back: Instant, received: &Received) -> SendEvent {
    let received = Arc::clone(received);
    Box::new(move |event| {
        let received = Arc::clone(&received);
        Box::pin(async move {
            if clock::now() < back {
                return Err(ReportError::Call(CheckError::NotConnected("gone".to_owned())));
            }
            received.lock().unwrap().push(event.event_id);
            Ok(())
        })
    })
}

/// A run of the agent.
struct Run {
    outbox: SharedOutbox,
    tasks: tokio::task::JoinSet<()>,
}

impl Run {
    fn start(directory: &Path, send: SendEvent) -> Self {
        let outbox = SharedOutbox::new(u64::MAX);
        let metrics = Metrics::new("a1").unwrap();
        let (persistence, _) = EventPersistence::start(directory, "a1", outbox.clone(), metrics);
        let delivery = EventDelivery {
            outbox: outbox.clone(),
            send,
            backoff: Backoff {
                initial: Duration::from_secs(1),
                max: Duration::from_mins(1),
                multiplier: 2.0,
            },
            connected: watch::channel(false).1,
            log: DeliveryLog::default(),
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(persistence.run(CancellationToken::new()));
        tasks.spawn(delivery.run(CancellationToken::new()));
        Self { outbox, tasks }
    }

    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    /// Reports the sessions with these numbers, in groups, over `time`.
    async fn report(&self, numbers: std::ops::Range<i32>, time: Duration) {
        let groups = u32::try_from((numbers.end - numbers.start) / GROUP).unwrap();
        for group in 0..i32::try_from(groups).unwrap() {
            let first = numbers.start + group * GROUP;
            let events = (first..first + GROUP).flat_map(events_of);
            let by = clock::now() + BOUND;
            self.outbox.durable(events, Vec::new(), by).await.unwrap();
            assert!(self.outbox.in_memory().len() <= MAX_IN_MEMORY);
            sleep(time / groups).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_hour_without_a_portal_and_a_kill_100_000_events_arrive_in_order() {
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let received = Received::default();
    let back = clock::now() + OUTAGE;
    let first = Run::start(dir.path(), portal(back, &received));
    first.report(1..SESSIONS / 2 + 1, OUTAGE / 2).await;
    first.kill().await;
    let second = Run::start(dir.path(), portal(back, &received));
    second.report(SESSIONS / 2 + 1..SESSIONS + 1, OUTAGE / 4).await;
    assert_eq!(second.outbox.stats().pending, 100_000);
    assert_eq!(second.outbox.stats().unsaved, 0);
    while second.outbox.stats().pending > 0 {
        sleep(Duration::from_secs(1)).await;
        assert!(second.outbox.in_memory().len() <= MAX_IN_MEMORY);
        assert!(clock::now() < back + OUTAGE, "{:?}", second.outbox.stats());
    }
    assert!(clock::now() >= back);
    let received = received.lock().unwrap();
    let order: HashMap<&EventId, usize> = received.iter().zip(0..).collect();
    assert_eq!((received.len(), order.len()), (100_000, 100_000), "each once");
    for number in 1..=SESSIONS {
        let [start, end] = events_of(number).map(|event| order[&event.event_id]);
        assert!(start < end, "session {number}");
    }
}
