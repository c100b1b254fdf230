//! Tests of the file: content that is read back, and files that are set aside.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DenyCode, Grant, GroupName, Username, Verdict, VhostName};
use resilience::{AccessScope, CacheKey, Record, Revocation};
use tempfile::TempDir;

use super::*;

mod damage;
mod model;

const AGENT: &str = "vpn1";

fn record(number: u32, verdict: Verdict) -> Record {
    Record {
        key: CacheKey {
            username: Username::parse(&format!("user \"{number}\" ö")).unwrap(),
            group: number
                .is_multiple_of(2)
                .then(|| GroupName::parse("staff").unwrap()),
            client_ip: IpAddr::V4(Ipv4Addr::from_bits(number)),
            vhost: number
                .is_multiple_of(3)
                .then(|| VhostName::parse("default").unwrap()),
        },
        verdict,
        asked: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123 + u64::from(number)),
    }
}

fn records(count: u32) -> Vec<Record> {
    let grant = Grant {
        routes: ["10.0.0.0/8".to_owned()].into(),
        dns_servers: ["2001:db8::1".parse().unwrap()].into(),
    };
    let verdict = |number| match number % 4 {
        0 => Verdict::deny(DenyCode::Policy, "no\nwith a line"),
        _ => Verdict::Allow(grant.clone()),
    };
    (0..count).map(|number| record(number, verdict(number))).collect()
}

fn revocations(count: u32) -> Vec<Revocation> {
    (0..count)
        .map(|number| {
            let Record { key, asked, .. } = record(number, Verdict::deny(DenyCode::Policy, ""));
            let scope = AccessScope {
                group: key.group,
                vhost: key.vhost,
            };
            Revocation {
                username: key.username,
                reason: "left\nwith a line".to_owned(),
                at: asked,
                revoked_at: number.is_multiple_of(2).then_some(asked),
                denied_in: vec![scope.clone(); number as usize % 2],
                allowed_since: vec![scope; number as usize % 3],
            }
        })
        .collect()
}

/// Returns `count` decisions, and a tenth as many revocations.
fn all(count: u32) -> Records {
    Records {
        decisions: records(count),
        revocations: revocations(count.div_ceil(10)),
    }
}

fn sorted(mut records: Records) -> Records {
    records.decisions.sort_by(|a, b| a.key.cmp(&b.key));
    records.revocations.sort_by(|a, b| a.username.cmp(&b.username));
    records
}

fn is_empty(records: &Records) -> bool {
    *records == Records::default()
}

#[derive(Debug)]
struct Opened {
    store: DecisionStore,
    records: Records,
    is_complete: bool,
    set_aside: Option<SetAside>,
}

fn try_open(path: &Path, agent_id: &str) -> Result<Opened, StoreError> {
    let mut set_aside = None;
    let OpenedStore {
        store,
        records,
        is_complete,
    } = DecisionStore::open(path, agent_id, |aside| {
        set_aside = Some(aside.clone());
    })?;
    Ok(Opened {
        store,
        records,
        is_complete,
        set_aside,
    })
}

fn open(path: &Path, agent_id: &str) -> Opened {
    try_open(path, agent_id).unwrap()
}

/// A directory in memory where there is one: thousands of files are synced.
fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn written(directory: &TempDir, records: &Records) -> PathBuf {
    let path = directory.path().join("decisions.redb");
    let mut opened = open(&path, AGENT);
    assert!(is_empty(&opened.records) && opened.set_aside.is_none() && opened.is_complete);
    opened.store.save(&Changes::Full(records.clone())).unwrap();
    path
}

#[test]
fn ten_thousand_decisions_and_a_thousand_revocations_are_read_back_unchanged() {
    let directory = TempDir::new().unwrap();
    let records = all(10_000);
    let path = written(&directory, &records);
    let opened = open(&path, AGENT);
    assert_eq!(sorted(opened.records), sorted(records));
    assert_eq!(opened.set_aside, None);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn changes_are_applied() {
    let directory = TempDir::new().unwrap();
    let before = all(20);
    let path = written(&directory, &before);
    let mut changed = before.decisions[1].clone();
    changed.verdict = Verdict::deny(DenyCode::Policy, "");
    let removed_answers = vec![
        before.decisions[0].key.clone(),
        record(99, changed.verdict.clone()).key,
    ];
    let mut replaced = before.revocations[1].clone();
    replaced.allowed_since.clear();
    let mut store = open(&path, AGENT).store;
    let put = Records {
        decisions: vec![changed],
        revocations: vec![replaced],
    };
    store
        .save(&Changes::Partial {
            put: put.clone(),
            removed_answers,
            removed_revocations: vec![before.revocations[0].username.clone()],
        })
        .unwrap();
    assert!(
        matches!(try_open(&path, AGENT), Err(StoreError::InUse)),
        "one process at a time"
    );
    drop(store);
    let mut expected = put;
    expected.decisions.extend_from_slice(&before.decisions[2..]);
    assert_eq!(sorted(open(&path, AGENT).records), sorted(expected));
}

#[test]
fn a_file_of_the_previous_format_is_read_and_upgraded() {
    let directory = TempDir::new().unwrap();
    let before = Records {
        decisions: records(3),
        ..Records::default()
    };
    let path = written(&directory, &before);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(METADATA)
        .unwrap()
        .insert("version", "1")
        .unwrap();
    transaction
        .open_table(METADATA)
        .unwrap()
        .remove("sequence")
        .unwrap();
    transaction.delete_table(REVOCATIONS).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::remove_file(directory.path().join("decisions.redb.sequence")).unwrap();
    let mut opened = open(&path, AGENT);
    assert_eq!((sorted(opened.records), opened.set_aside), (before.clone(), None));
    let put = Records {
        revocations: revocations(1),
        ..Records::default()
    };
    let (removed_answers, removed_revocations) = (Vec::new(), Vec::new());
    opened
        .store
        .save(&Changes::Partial {
            put,
            removed_answers,
            removed_revocations,
        })
        .unwrap();
    drop(opened.store);
    let opened = open(&path, AGENT);
    assert_eq!(opened.records.revocations, revocations(1));
    drop(opened.store);
    let database = Database::open(&path).unwrap();
    assert_eq!(
        metadata(&database, "version").ok().flatten().as_deref(),
        Some(VERSION),
        "an older program does not open it"
    );
}

/// Opens an unusable file: it is set aside, and the next start finds a working one.
fn reason_set_aside(path: &Path, agent_id: &str) -> SetAsideReason {
    let mut opened = open(path, agent_id);
    assert!(is_empty(&opened.records));
    let set_aside = opened.set_aside.expect("the file was used");
    let kept = set_aside.path.as_ref().map(fs::symlink_metadata);
    assert!(kept.is_none_or(|kept| kept.is_ok()), "the file is kept");
    opened.store.save(&Changes::Full(all(1))).unwrap();
    drop(opened.store);
    let again = open(path, agent_id);
    assert_eq!((again.records, again.set_aside), (all(1), None));
    assert!(!opened.is_complete && !again.is_complete, "denies may be missing");
    set_aside.reason
}

#[test]
fn a_file_of_another_agent_or_of_a_newer_program_is_set_aside() {
    let directory = TempDir::new().unwrap();
    assert_eq!(
        reason_set_aside(&written(&directory, &all(3)), "vpn2"),
        SetAsideReason::Foreign(AGENT.to_owned())
    );
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(3));
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(METADATA)
        .unwrap()
        .insert("version", "4")
        .unwrap();
    transaction.delete_table(DECISIONS).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(
        reason_set_aside(&path, AGENT),
        SetAsideReason::Newer("4".to_owned())
    );
    let database = Database::open(directory.path().join("decisions.redb.newer")).unwrap();
    let metadata = database.begin_read().unwrap().open_table(METADATA).unwrap();
    assert_eq!(
        metadata.get("version").unwrap().unwrap().value(),
        "4",
        "the file was not overwritten"
    );
}

#[test]
fn a_file_that_other_users_can_write_or_read_is_set_aside() {
    for mode in [0o604, 0o620, 0o640] {
        let directory = TempDir::new().unwrap();
        let path = written(&directory, &all(3));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            reason_set_aside(&path, AGENT),
            SetAsideReason::Exposed,
            "{mode:o}"
        );
    }
    let directory = TempDir::new().unwrap();
    let target = written(&directory, &all(3));
    let path = directory.path().join("link");
    symlink(&target, &path).unwrap();
    assert_eq!(reason_set_aside(&path, AGENT), SetAsideReason::Exposed);
    assert_eq!(
        open(&target, AGENT).records,
        sorted(all(3)),
        "the target of a link is not touched"
    );
    let path = directory.path().join("other name");
    fs::hard_link(&target, &path).unwrap();
    assert_eq!(reason_set_aside(&path, AGENT), SetAsideReason::Exposed);
    // A FIFO, though it is the agent's alone.
    let path = directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(reason_set_aside(&path, AGENT), SetAsideReason::Exposed);
}

#[test]
fn an_entry_that_differs_from_what_was_written_is_not_decoded() {
    let (codec, other) = (Codec::new(AGENT), Codec::new("vpn2"));
    let (record, revocation) = (records(2).remove(1), revocations(3).remove(2));
    let ((key, value), (user, revoked)) = (codec.encode(&record), codec.encode_revocation(&revocation));
    assert_eq!(codec.decode(&key, &value), Some(record));
    assert_eq!(codec.decode_revocation(&user, &revoked), Some(revocation));
    assert_eq!(other.decode(&key, &value), None, "another agent's");
    assert_eq!(other.decode_revocation(&user, &revoked), None, "another agent's");
    each_flip(&key, &value, |key, value| {
        assert_eq!(codec.decode(key, value), None);
    });
    each_flip(&user, &revoked, |user, revoked| {
        assert_eq!(codec.decode_revocation(user, revoked), None);
    });
    assert_eq!(
        (codec.decode(&key, &value[..7]), codec.decode(&key, &[])),
        (None, None)
    );
}

/// Flips each bit of an entry in turn.
fn each_flip(key: &[u8], value: &[u8], check: impl Fn(&[u8], &[u8])) {
    for bit in 0..(key.len() + value.len()) * 8 {
        let (mut key, mut value) = (key.to_vec(), value.to_vec());
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        match byte.checked_sub(key.len()) {
            None => key[byte] ^= mask,
            Some(byte) => value[byte] ^= mask,
        }
        check(&key, &value);
    }
}

#[test]
fn a_missing_directory_sets_nothing_aside() {
    let directory = TempDir::new().unwrap();
    let opened = try_open(&directory.path().join("no/decisions.redb"), AGENT);
    assert!(matches!(opened, Err(StoreError::Io(_))), "{opened:?}");
}

#[test]
fn what_cannot_be_opened_is_an_error_and_stays_where_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("decisions.redb");
    fs::create_dir(&path).unwrap();
    let opened = try_open(&path, AGENT);
    assert!(matches!(opened, Err(StoreError::Io(_))), "{opened:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(path.is_dir());
}

#[test]
fn an_error_of_the_disk_is_no_damage() {
    let is_damage = |kind: io::ErrorKind| {
        let error = OpenError::from(redb::Error::Io(kind.into()));
        matches!(error, OpenError::Unusable(SetAsideReason::Damaged(_)))
    };
    use io::ErrorKind::{InvalidData, Other, StorageFull, TimedOut, UnexpectedEof};
    assert_eq!([Other, StorageFull, TimedOut].map(is_damage), [false; 3]);
    assert_eq!([InvalidData, UnexpectedEof].map(is_damage), [true; 2]);
}

#[test]
fn an_intact_store_is_opened_without_replacing_its_sequence_file() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(3));
    let sequence = directory.path().join("decisions.redb.sequence");
    // Open: a file that replaces it cannot get its inode.
    let held = fs::File::open(&sequence).unwrap();
    drop(open(&path, AGENT));
    assert_eq!(
        fs::metadata(&sequence).unwrap().ino(),
        held.metadata().unwrap().ino()
    );
}

#[test]
fn each_reason_to_set_a_store_aside_has_words_for_the_log() {
    for (reason, words) in [
        (
            SetAsideReason::Damaged("it is empty".to_owned()),
            "it is damaged: it is empty",
        ),
        (
            SetAsideReason::Outdated {
                found: 1,
                expected: 2,
            },
            "it ends with commit 1, and the last one that was written is 2",
        ),
        (
            SetAsideReason::Missing,
            "it is gone, and its sequence file is not",
        ),
        (
            SetAsideReason::Newer("4".to_owned()),
            "a newer program wrote it, in format 4",
        ),
        (
            SetAsideReason::Foreign("vpn2".to_owned()),
            "agent \"vpn2\" wrote it",
        ),
        (SetAsideReason::Exposed, "other users can read or write it"),
    ] {
        assert_eq!(reason.to_string(), words);
    }
}
