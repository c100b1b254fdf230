//! Files that a kill, a power loss or damage left behind.

use std::collections::BTreeMap;

use super::*;

const DATABASE: &str = "events.redb";
const PAGE_SIZE: usize = 4_096;

/// The database and its generation file.
#[derive(Clone)]
struct Image {
    database: Vec<u8>,
    generation: Vec<u8>,
}

impl Image {
    fn of(dir: &Path) -> Self {
        Self {
            database: fs::read(dir.join(DATABASE)).unwrap(),
            generation: fs::read(dir.join("events.redb.generation")).unwrap(),
        }
    }

    fn with_database(&self, database: Vec<u8>) -> Self {
        let generation = self.generation.clone();
        Self { database, generation }
    }

    /// Writes it to a directory of its own, as the agent would.
    fn put(&self) -> Files {
        use std::os::unix::fs::PermissionsExt as _;
        let files = Files {
            dir: TempDir::new_in("/dev/shm").unwrap(),
            incidents: Vec::new(),
        };
        for (name, content) in [
            (DATABASE, &self.database),
            ("events.redb.generation", &self.generation),
        ] {
            let path = files.dir.path().join(name);
            replace(&path, content);
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        files
    }
}

/// What a store has: the numbers of its events, and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    events: Vec<i32>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Opens an image, checks that every event in it is as it was written and that the store works, and
/// returns its content and the incidents.
fn open_image(image: &Image) -> (Content, Vec<&'static str>) {
    let mut files = image.put();
    let (mut store, loaded) = files.open();
    let chunk = store.read(0, usize::MAX).unwrap();
    for (sequence, found, _) in &chunk.events {
        assert_eq!(*found, event(i32::try_from(*sequence).unwrap()));
    }
    let content = Content {
        events: stored(&store),
        rows: loaded
            .sessions
            .into_iter()
            .map(|(SessionKey(key), row)| (key, row))
            .collect(),
    };
    assert_eq!(loaded.events, content.events.len());
    let incidents = files.incidents();
    store.commit(&events(5_000..=5_001)).unwrap();
    drop(store);
    let (store, _) = files.open();
    assert_eq!(stored(&store).len(), content.events.len() + 2);
    assert_eq!(files.incidents(), [""; 0], "an incident is reported once");
    (content, incidents)
}

fn rows(numbers: std::ops::Range<u32>) -> Vec<(SessionKey, Option<Vec<u8>>)> {
    numbers
        .map(|number| {
            let row = vec![7; usize::try_from(number).unwrap()];
            (SessionKey(number.to_be_bytes().to_vec()), Some(row))
        })
        .collect()
}

/// The images of a store before and after a commit with events, removals and rows; never closed.
fn before_and_after_a_commit() -> (Image, Image) {
    let mut files = Files {
        dir: TempDir::new_in("/dev/shm").unwrap(),
        incidents: Vec::new(),
    };
    let (mut store, _) = files.open();
    for start in [1, 101, 201] {
        let mut batch = events(start..=start + 99);
        batch.sessions = rows(0..20);
        store.commit(&batch).unwrap();
    }
    let before = Image::of(files.dir.path());
    let mut batch = events(301..=360);
    batch.settled = (1..=40).collect();
    batch.sessions = rows(10..40);
    store.commit(&batch).unwrap();
    (before, Image::of(files.dir.path()))
}

#[test]
fn a_commit_that_a_power_loss_tears_is_there_whole_or_not_at_all() {
    let (before, after) = before_and_after_a_commit();
    let contents = [&before, &after].map(|image| open_image(image).0);
    assert_ne!(contents[0], contents[1]);
    let mut rng = fastrand::Rng::with_seed(3);
    let pages = after.database.len() / PAGE_SIZE;
    let mut database = before.database.clone();
    database.resize(after.database.len(), 0);
    let changed: Vec<usize> = (0..pages)
        .map(|page| page * PAGE_SIZE)
        .filter(|at| database[*at..at + PAGE_SIZE] != after.database[*at..at + PAGE_SIZE])
        .collect();
    let mut seen = [0, 0];
    for _ in 0..60 {
        let mut torn = database.clone();
        let kept = rng.f32();
        for at in &changed {
            if rng.f32() < kept {
                torn[*at..at + PAGE_SIZE].copy_from_slice(&after.database[*at..at + PAGE_SIZE]);
            }
        }
        let (content, incidents) = open_image(&before.with_database(torn));
        assert_eq!(incidents, [""; 0], "a crash is no damage");
        let whole = contents.iter().position(|whole| *whole == content);
        seen[whole.expect("one of the two")] += 1;
    }
    assert!(seen[0] > 0, "{seen:?}");
}

#[test]
fn a_flipped_bit_anywhere_invents_nothing_and_loses_no_event_in_silence() {
    let (_, image) = before_and_after_a_commit();
    // Closed, as the damage of a file at rest.
    let mut files = image.put();
    drop(files.open());
    let image = Image::of(files.dir.path());
    let (whole, _) = open_image(&image);
    let used: Vec<usize> = (0..image.database.len())
        .filter(|at| image.database[*at] != 0)
        .collect();
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut damaged, mut recovered) = (0, 0);
    for _ in 0..150 {
        let at = used[rng.usize(0..used.len())];
        let mut database = image.database.clone();
        database[at] ^= 1 << rng.u32(0..8);
        let (content, incidents) = open_image(&image.with_database(database));
        assert!(content.events.iter().all(|number| whole.events.contains(number)));
        if incidents.is_empty() {
            assert_eq!(content, whole, "byte {at}");
        } else {
            damaged += 1;
            recovered += content.events.len();
        }
    }
    assert!(damaged > 50, "{damaged}");
    let all = damaged * whole.events.len();
    assert!(recovered * 2 > all, "{recovered} of {all} events recovered");
}

#[test]
fn a_truncated_or_overwritten_file_is_replaced() {
    let (_, image) = before_and_after_a_commit();
    let len = image.database.len();
    let mut contents = vec![b"x".to_vec(), vec![0; 8_192], vec![0xa5; 20_000]];
    contents.extend((0..10).map(|part| image.database[..len * part / 10].to_vec()));
    for content in contents {
        let len = content.len();
        let (_, incidents) = open_image(&image.with_database(content));
        assert_eq!(incidents, ["damaged"], "{len} bytes");
    }
}
