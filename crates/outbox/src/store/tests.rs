use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocserv_agent_model::{
    DisconnectReason, Disconnected, Event, EventId, EventKind, OcservId, SessionUid, Username,
};
use tempfile::TempDir;

use super::schema::METADATA;
use super::*;

mod damage;

const AGENT: &str = "a1";

fn event(number: i32) -> QueuedEvent {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new(AGENT, id, 1_700_000_000);
    let kind = EventKind::Disconnected(Disconnected {
        at: UNIX_EPOCH + Duration::from_secs(1_700_000_100),
        reason: DisconnectReason::UserInitiated,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    let event = Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    };
    QueuedEvent {
        event,
        queued: SystemTime::UNIX_EPOCH,
    }
}

fn events(numbers: std::ops::RangeInclusive<i32>) -> Batch {
    let sequence = |number: i32| u64::try_from(number).unwrap();
    Batch {
        events: numbers
            .map(|number| NewEvent::new(sequence(number), &event(number)))
            .collect(),
        ..Batch::default()
    }
}

struct Files {
    dir: TempDir,
    incidents: Vec<Incident>,
}

impl Files {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            incidents: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("events.redb")
    }

    fn open_as(&mut self, agent: &str) -> Result<(Store, Loaded), StoreError> {
        let path = self.path();
        Store::open(&path, agent, |incident| self.incidents.push(incident.clone()))
    }

    fn open(&mut self) -> (Store, Loaded) {
        self.open_as(AGENT).unwrap()
    }

    /// The kinds of the incidents since the last call.
    fn incidents(&mut self) -> Vec<&'static str> {
        let incidents = std::mem::take(&mut self.incidents);
        incidents
            .iter()
            .map(|incident| incident.problem.label())
            .collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn replace(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

/// The ocserv IDs of all events.
fn stored(store: &Store) -> Vec<i32> {
    let chunk = store.read(0, usize::MAX).unwrap();
    assert_eq!(chunk.damaged, []);
    chunk
        .events
        .iter()
        .map(|(_, event, _)| event.event.id.get())
        .collect()
}

#[test]
fn a_commit_is_found_by_the_next_run_with_its_rows() {
    let mut files = Files::new();
    let (mut store, loaded) = files.open();
    assert_eq!((loaded.events, loaded.last), (0, None));
    let key = |name: &str| SessionKey(name.as_bytes().to_vec());
    let mut batch = events(1..=5);
    batch.sessions = vec![
        (key("a"), Some(b"one".to_vec())),
        (key("b"), Some(b"two".to_vec())),
    ];
    store.commit(&batch).unwrap();
    let change = Batch {
        events: Vec::new(),
        settled: vec![1, 3, 99],
        sessions: vec![(key("a"), None)],
    };
    store.commit(&change).unwrap();
    drop(store);
    let (store, loaded) = files.open();
    assert_eq!((loaded.events, loaded.last), (3, Some(5)));
    assert_eq!(loaded.sessions, [(key("b"), b"two".to_vec())]);
    assert_eq!(stored(&store), [2, 4, 5]);
    assert_eq!(store.read(0, 1).unwrap().next, Some(4));
    assert_eq!(store.count(3, |sequence| sequence != 5).unwrap().0, 1);
    assert_eq!(files.incidents(), [""; 0]);
}

#[test]
fn a_repeated_commit_changes_nothing() {
    let mut files = Files::new();
    let (mut store, _) = files.open();
    for _ in 0..2 {
        store.commit(&events(1..=3)).unwrap();
    }
    assert_eq!(stored(&store), [1, 2, 3]);
}

#[test]
fn a_second_process_is_refused() {
    let mut files = Files::new();
    let _store = files.open();
    assert!(matches!(files.open_as(AGENT), Err(StoreError::InUse)));
}

#[test]
fn an_older_copy_is_used_and_reported() {
    let mut files = Files::new();
    let (mut store, _) = files.open();
    store.commit(&events(1..=2)).unwrap();
    drop(store);
    let copy = fs::read(files.path()).unwrap();
    let (mut store, _) = files.open();
    store.commit(&events(3..=4)).unwrap();
    drop(store);
    replace(&files.path(), &copy);
    let (store, loaded) = files.open();
    assert_eq!(loaded.events, 2);
    assert_eq!(files.incidents(), ["outdated"]);
    drop(store);
    files.open();
    assert_eq!(files.incidents(), [""; 0], "reported once");
    fs::remove_file(files.path()).unwrap();
    files.open();
    assert_eq!(files.incidents(), ["missing"]);
}

#[test]
fn the_file_of_another_agent_is_renamed_and_not_used() {
    let mut files = Files::new();
    let (mut store, _) = files.open();
    store.commit(&events(1..=2)).unwrap();
    drop(store);
    let (_, loaded) = files.open_as("a2").unwrap();
    assert_eq!(loaded.events, 0);
    assert_eq!(files.incidents(), ["foreign"]);
    assert!(files.dir.path().join("events.redb.foreign").exists());
}

#[test]
fn a_file_that_others_can_read_is_renamed_and_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = Files::new();
    files.open();
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o644)).unwrap();
    files.open();
    assert_eq!(files.incidents(), ["exposed"]);
    assert_eq!(
        fs::metadata(files.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_is() {
    let mut files = Files::new();
    let (mut store, _) = files.open();
    store.commit(&events(1..=2)).unwrap();
    let transaction = store.database.begin_write().unwrap();
    transaction
        .open_table(METADATA)
        .unwrap()
        .insert("version", "2")
        .unwrap();
    transaction.commit().unwrap();
    drop(store);
    assert!(matches!(files.open_as(AGENT), Err(StoreError::Newer(version)) if version == "2"));
    assert_eq!(files.incidents(), [""; 0]);
    let database = Database::open(files.path()).unwrap();
    let transaction = database.begin_read().unwrap();
    let events = transaction.open_table(EVENTS).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&events).unwrap(), 2);
}

#[test]
fn what_was_recovered_is_used_after_a_crash_between_the_renames() {
    let mut files = Files::new();
    let (mut store, _) = files.open();
    store.commit(&events(1..=3)).unwrap();
    drop(store);
    rename(&files.path(), &storage::with_suffix(&files.path(), ".recovered"));
    let (store, _) = files.open();
    assert_eq!(stored(&store), [1, 2, 3]);
    assert_eq!(files.incidents(), [""; 0]);
}
