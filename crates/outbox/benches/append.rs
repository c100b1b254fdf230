//! Cost of a durable append of a group of events, beside a raw log of the same bytes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use ocserv_agent_model::{Connected, Event, EventId, EventKind, OcservId, SessionUid, Username};
use outbox::QueuedEvent;
use outbox::store::{Batch, NewEvent, Store};

/// Events in a group: what a burst of disconnects brings while the commit before runs.
const GROUP: u64 = 64;
/// The length of an encoded event of this bench, in bytes.
const EVENT_LEN: usize = 280;

fn queued(number: u64) -> Option<QueuedEvent> {
    let id = OcservId::new(i32::try_from(number % 100_000).ok()? + 1).ok()?;
    let uid = SessionUid::new("vpn1.example.org", id, 1_700_000_000 + number);
    let kind = EventKind::Connected(Connected {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number),
        client_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        vpn_ip: None,
        device: "vpns0".to_owned(),
        group: None,
    });
    let event = Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice@example.org").ok()?,
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    };
    Some(QueuedEvent {
        event,
        queued: SystemTime::UNIX_EPOCH,
    })
}

/// A commit as the agent makes it: a group of new events, and the removal of a group before.
fn batch(first: u64) -> Batch {
    Batch {
        events: (first..first + GROUP)
            .filter_map(|sequence| Some(NewEvent::new(sequence, &queued(sequence)?)))
            .collect(),
        settled: (first.saturating_sub(10 * GROUP)..first.saturating_sub(9 * GROUP)).collect(),
        ..Batch::default()
    }
}

#[expect(clippy::expect_used, reason = "without the file there is nothing to measure")]
fn log(path: &Path) -> File {
    let options = OpenOptions::new().create(true).append(true).open(path);
    options.expect("a file in a directory of our own")
}

#[expect(clippy::expect_used, reason = "without the file there is nothing to measure")]
fn append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut log = log(&directory.path().join("raw.log"));
    let bytes = vec![b'x'; EVENT_LEN * usize::try_from(GROUP).unwrap_or_default()];
    criterion.bench_function("raw_log_append_64", |bencher| {
        bencher.iter(|| {
            log.write_all(&bytes).expect("room on the disk");
            log.sync_data().expect("a disk that works");
        });
    });

    let path = directory.path().join("events.redb");
    let (mut store, _) = Store::open(&path, "vpn1", |_| {}).expect("a file in a directory of our own");
    let mut next = 1;
    criterion.bench_function("event_store_append_64", |bencher| {
        bencher.iter(|| {
            store.commit(&batch(next)).expect("room on the disk");
            next += GROUP;
        });
    });
}

criterion_group!(benches, append);
criterion_main!(benches);
