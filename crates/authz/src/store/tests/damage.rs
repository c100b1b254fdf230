//! Files that a kill, damage or a restored copy left behind.

use super::*;

const DATABASE: &str = "decisions.redb";
const SEQUENCE: &str = "decisions.redb.sequence";
const PAGE_SIZE: usize = 4_096;

/// The files of a store: of an open one, as a kill would leave them.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) database: Vec<u8>,
    pub(super) sequence: Vec<u8>,
}

impl Files {
    pub(super) fn of(directory: &TempDir) -> Self {
        Self {
            database: fs::read(directory.path().join(DATABASE)).unwrap(),
            sequence: fs::read(directory.path().join(SEQUENCE)).unwrap(),
        }
    }

    /// Writes them to a directory of their own.
    pub(super) fn put(&self) -> (TempDir, PathBuf) {
        let directory = in_memory();
        let path = directory.path().join(DATABASE);
        write(&path, &self.database);
        write(&directory.path().join(SEQUENCE), &self.sequence);
        (directory, path)
    }

    fn with_database(&self, database: Vec<u8>) -> Self {
        let sequence = self.sequence.clone();
        Self { database, sequence }
    }

    fn reason_set_aside(&self) -> SetAsideReason {
        let (_directory, path) = self.put();
        reason_set_aside(&path, AGENT)
    }
}

/// The files of a store of 40 decisions before and after the revocation of a user, never closed.
fn before_and_after_a_revocation() -> (Files, Files) {
    let directory = TempDir::new().unwrap();
    let decisions = records(40);
    let allowed = decisions[1].clone();
    let path = written(
        &directory,
        &Records {
            decisions,
            ..Records::default()
        },
    );
    let mut store = open(&path, AGENT).store;
    let before = Files::of(&directory);
    let revocation = Revocation {
        username: allowed.key.username.clone(),
        reason: String::new(),
        at: allowed.asked,
        revoked_at: Some(allowed.asked),
        denied_in: Vec::new(),
        allowed_since: Vec::new(),
    };
    store
        .save(&Changes::Partial {
            put: Records {
                revocations: vec![revocation],
                ..Records::default()
            },
            removed_answers: vec![allowed.key],
            removed_revocations: Vec::new(),
        })
        .unwrap();
    (before, Files::of(&directory))
}

fn is_revoked(records: &Records) -> bool {
    let user = &record(1, Verdict::deny(DenyCode::Policy, "")).key.username;
    let allowed = records
        .decisions
        .iter()
        .any(|record| record.key.username == *user);
    !allowed && records.revocations.iter().any(|record| record.username == *user)
}

#[test]
fn garbage_and_empty_and_truncated_files_are_set_aside() {
    let directory = TempDir::new().unwrap();
    written(&directory, &all(300));
    let whole = Files::of(&directory);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut garbage = vec![0; 20_000];
    rng.fill(&mut garbage);
    let mut contents = vec![b"x".to_vec(), vec![0; 8_192], garbage];
    let len = whole.database.len();
    contents.extend((0..20).map(|part| whole.database[..len * part / 20].to_vec()));
    for content in contents {
        let len = content.len();
        let reason = whole.with_database(content).reason_set_aside();
        assert!(
            matches!(reason, SetAsideReason::Damaged(_)),
            "{len} bytes: {reason}"
        );
    }
}

#[test]
fn a_flipped_bit_changes_no_decision() {
    let directory = TempDir::new().unwrap();
    let records = sorted(all(100));
    written(&directory, &records);
    let whole = Files::of(&directory);
    let used: Vec<usize> = (0..whole.database.len())
        .filter(|at| whole.database[*at] != 0)
        .collect();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut detected = 0;
    for _ in 0..120 {
        let mut flipped = whole.clone();
        flipped.database[used[rng.usize(..used.len())]] ^= 1 << rng.u8(..8);
        let (_directory, path) = flipped.put();
        let opened = open(&path, AGENT);
        if opened.set_aside.is_some() {
            assert!(is_empty(&opened.records));
            detected += 1;
        } else {
            assert_eq!(sorted(opened.records), records);
        }
    }
    // Most of the others hit unused pages.
    assert!(detected > 20, "{detected} of 120 flips detected");
}

#[test]
fn a_crash_between_two_commits_leaves_the_first_one() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(5));
    let store = open(&path, AGENT).store;
    let transaction = store.database.begin_write().unwrap();
    transaction
        .open_table(DECISIONS)
        .unwrap()
        .retain(|_, _| false)
        .unwrap();
    let (_directory, path) = Files::of(&directory).put();
    let opened = open(&path, AGENT);
    assert_eq!((sorted(opened.records), opened.set_aside), (sorted(all(5)), None));
}

#[test]
fn a_crash_between_a_commit_and_its_sequence_file_leaves_the_commit() {
    let (before, after) = before_and_after_a_revocation();
    let (_directory, path) = before.with_database(after.database).put();
    let opened = open(&path, AGENT);
    assert!(is_revoked(&opened.records) && opened.set_aside.is_none());
    drop(opened);
    // From then on that commit must be there.
    write(&path, &before.database);
    assert_eq!(
        reason_set_aside(&path, AGENT),
        SetAsideReason::Outdated {
            found: 1,
            expected: 2
        }
    );
}

#[test]
fn damage_after_a_kill_never_undoes_an_acknowledged_revocation_silently() {
    let (_, killed) = before_and_after_a_revocation();
    let len = killed.database.len();
    let headers = (0..len).filter(|at| at % PAGE_SIZE < 12 || (64..192).contains(at));
    let payload = (0..len).filter(|at| at % 397 == 0);
    let flips = headers.chain(payload);
    let mut undone = Vec::new();
    let mut outdated = 0;
    for at in flips.filter(|&at| killed.database[at] != 0 || at % 8 == 0) {
        let mut flipped = killed.clone();
        flipped.database[at] ^= 1;
        let (_directory, path) = flipped.put();
        let opened = open(&path, AGENT);
        match opened.set_aside {
            Some(set_aside) => {
                assert!(is_empty(&opened.records));
                outdated += u32::from(matches!(set_aside.reason, SetAsideReason::Outdated { .. }));
            }
            None if is_revoked(&opened.records) => {}
            None => undone.push(at),
        }
    }
    assert!(undone.is_empty(), "{} flips: {undone:?}", undone.len());
    assert!(outdated > 50, "{outdated} flips hid the last commit");
}

#[test]
fn a_copy_from_before_the_last_commit_is_set_aside() {
    let (before, after) = before_and_after_a_revocation();
    assert_eq!(
        after.with_database(before.database).reason_set_aside(),
        SetAsideReason::Outdated {
            found: 1,
            expected: 2
        }
    );
}

#[test]
fn an_old_copy_beside_the_sequence_file_of_a_new_store_is_set_aside_whatever_its_number() {
    let old = TempDir::new().unwrap();
    let path = written(&old, &all(20));
    let mut store = open(&path, AGENT).store;
    for _ in 0..4 {
        store.save(&Changes::Full(all(20))).unwrap();
    }
    let old = Files::of(&old);
    // The old store has commit 5; the new one, which took its place, has fewer, as many, and more.
    for commits in 0..=7 {
        let (directory, path) = old.with_database(b"x".to_vec()).put();
        let mut new = open(&path, AGENT);
        assert!(new.set_aside.is_some());
        for _ in 0..commits {
            new.store.save(&Changes::Full(all(1))).unwrap();
        }
        drop(new);
        write(&path, &old.database);
        let reason = reason_set_aside(&path, AGENT);
        let is_outdated = matches!(reason, SetAsideReason::Outdated { .. });
        assert!(is_outdated, "after {commits} commits: {reason}");
        drop(directory);
    }
}

#[test]
fn a_missing_file_is_reported_and_a_new_store_takes_its_place() {
    let (_, after) = before_and_after_a_revocation();
    let (_directory, path) = after.put();
    fs::remove_file(&path).unwrap();
    assert_eq!(reason_set_aside(&path, AGENT), SetAsideReason::Missing);
    let (directory, path) = after.put();
    fs::remove_file(directory.path().join(SEQUENCE)).unwrap();
    assert_eq!(
        reason_set_aside(&path, AGENT),
        SetAsideReason::Damaged("its sequence file is gone".to_owned())
    );
}

#[test]
fn any_damage_of_the_sequence_file_sets_the_store_aside() {
    let (_, after) = before_and_after_a_revocation();
    let len = after.sequence.len();
    let flipped = (0..len * 8).map(|bit| {
        let mut content = after.sequence.clone();
        content[bit / 8] ^= 1 << (bit % 8);
        content
    });
    let truncated = (0..len).map(|len| after.sequence[..len].to_vec());
    for sequence in flipped.chain(truncated) {
        let text = String::from_utf8_lossy(&sequence).into_owned();
        let database = after.database.clone();
        assert_eq!(
            Files { database, sequence }.reason_set_aside(),
            SetAsideReason::Damaged("its sequence file is damaged".to_owned()),
            "{text:?}"
        );
    }
}

#[test]
fn repeated_damage_does_not_fill_the_directory() {
    let (_, after) = before_and_after_a_revocation();
    let (directory, path) = after.put();
    for _ in 0..5 {
        write(&path, b"damaged");
        reason_set_aside(&path, AGENT);
    }
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [DATABASE, "decisions.redb.damaged", SEQUENCE]);
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
