//! Memory of an outbox with a million events on the disk.

use std::fs;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{
    DisconnectReason, Disconnected, Event, EventId, EventKind, OcservId, SessionUid, Username,
};
use outbox::store::{Batch, NewEvent, Store};
use outbox::{AttemptResult, Limits, Next, Outbox, QueuedEvent};

const EVENTS: u64 = 1_000_000;
const COMMIT: u64 = 10_000;
/// Events that are read at once, as the agent does.
const READ: usize = 512;
/// The most memory that the outbox may take beyond the process without it, in MB.
const LIMIT: f64 = 16.0;

type Failure = Box<dyn std::error::Error>;

fn event(number: u64) -> Result<QueuedEvent, Failure> {
    let id = OcservId::new(i32::try_from(number % 100_000)? + 1)?;
    let uid = SessionUid::new("vpn1", id, 1_700_000_000 + number);
    let kind = EventKind::Disconnected(Disconnected {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number),
        reason: DisconnectReason::UserInitiated,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    let event = Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice@example.org")?,
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    };
    Ok(QueuedEvent {
        event,
        queued: SystemTime::UNIX_EPOCH,
    })
}

/// Resident memory that is not file pages, in MB.
fn memory() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes: u32 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no RssAnon in /proc/self/status")?
        .parse()?;
    Ok(f64::from(kilobytes) / 1_024.0)
}

fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("events.redb");
    let before = memory()?;
    let (mut store, _) = Store::open(&path, "vpn1", |_| {})?;
    for first in (0..EVENTS).step_by(usize::try_from(COMMIT)?) {
        let mut batch = Batch::default();
        for sequence in first..first + COMMIT {
            batch.events.push(NewEvent::new(sequence, &event(sequence)?));
        }
        store.commit(&batch)?;
    }
    drop(store);

    let (mut store, loaded) = Store::open(&path, "vpn1", |_| {})?;
    let limits = Limits {
        max_bytes: u64::MAX,
        window: 4_096,
        max_unsaved: 32_768,
    };
    let mut outbox = Outbox::new(limits, SystemTime::UNIX_EPOCH);
    outbox.loaded(loaded.events, loaded.bytes, loaded.last);
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = std::time::Instant::now();
    let mut most = memory()?;
    for delivered in 0..20_000 {
        while let Some(from) = outbox.read_from() {
            outbox.read(store.read(from, READ)?);
        }
        let Next::Send(attempt) = outbox.next(now) else {
            return Err(format!("nothing to send after {delivered} events").into());
        };
        outbox.settle(attempt.id, AttemptResult::Delivered);
        if delivered % 1_000 == 0 {
            let work = outbox.take_work();
            store.commit(&Batch {
                settled: work.removed().collect(),
                ..Batch::default()
            })?;
            outbox.written(&work);
            most = most.max(memory()?);
        }
    }
    let pending = outbox.stats().pending;
    println!(
        "{pending} events pending: {:.1} MB of memory, at most {LIMIT} MB",
        most - before
    );
    println!(
        "the file has {} MB, the events {} MB",
        fs::metadata(&path)?.len() >> 20,
        loaded.bytes >> 20
    );
    if most - before > LIMIT {
        return Err("the memory grows with the events on the disk".into());
    }
    Ok(())
}
