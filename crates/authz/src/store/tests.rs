//! Tests of the file: content that is read back, and files that are set aside.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DenyCode, Grant, GroupName, Username, Verdict, VhostName};
use resilience::{AccessScope, CacheKey, Record, Revocation};
use tempfile::TempDir;

use super::*;

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

fn written(directory: &TempDir, records: &Records) -> PathBuf {
    let path = directory.path().join("decisions.redb");
    let opened = DecisionStore::open(&path, AGENT).unwrap();
    assert!(is_empty(&opened.records) && opened.set_aside.is_none());
    opened.store.save(&Changes::Full(records.clone())).unwrap();
    path
}

#[test]
fn ten_thousand_decisions_and_a_thousand_revocations_are_read_back_unchanged() {
    let directory = TempDir::new().unwrap();
    let records = all(10_000);
    let path = written(&directory, &records);
    let opened = DecisionStore::open(&path, AGENT).unwrap();
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
    let store = DecisionStore::open(&path, AGENT).unwrap().store;
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
        matches!(DecisionStore::open(&path, AGENT), Err(StoreError::InUse)),
        "one process at a time"
    );
    drop(store);
    let mut expected = put;
    expected.decisions.extend_from_slice(&before.decisions[2..]);
    assert_eq!(
        sorted(DecisionStore::open(&path, AGENT).unwrap().records),
        sorted(expected)
    );
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
    transaction.delete_table(REVOCATIONS).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let opened = DecisionStore::open(&path, AGENT).unwrap();
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
    let opened = DecisionStore::open(&path, AGENT).unwrap();
    assert_eq!(opened.records.revocations, revocations(1));
    drop(opened.store);
    let database = Database::open(&path).unwrap();
    assert_eq!(
        metadata(&database, "version").ok().as_deref(),
        Some(VERSION),
        "an older program does not open it"
    );
}

/// Opens an unusable file: it is set aside, and the next start finds a working one.
fn reason_set_aside(path: &Path, agent_id: &str) -> SetAsideReason {
    let opened = DecisionStore::open(path, agent_id).unwrap();
    assert!(is_empty(&opened.records));
    let set_aside = opened.set_aside.expect("the file was used");
    assert!(fs::symlink_metadata(&set_aside.path).is_ok(), "the file is kept");
    opened.store.save(&Changes::Full(all(1))).unwrap();
    drop(opened.store);
    let again = DecisionStore::open(path, agent_id).unwrap();
    assert_eq!((again.records, again.set_aside), (all(1), None));
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
        .insert("version", "3")
        .unwrap();
    transaction.delete_table(DECISIONS).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(
        reason_set_aside(&path, AGENT),
        SetAsideReason::Newer("3".to_owned())
    );
    let database = Database::open(directory.path().join("decisions.redb.newer")).unwrap();
    let metadata = database.begin_read().unwrap().open_table(METADATA).unwrap();
    assert_eq!(
        metadata.get("version").unwrap().unwrap().value(),
        "3",
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
        DecisionStore::open(&target, AGENT).unwrap().records,
        sorted(all(3)),
        "the target of a link is not touched"
    );
    let path = directory.path().join("other name");
    fs::hard_link(&target, &path).unwrap();
    assert_eq!(reason_set_aside(&path, AGENT), SetAsideReason::Exposed);
}

#[test]
fn garbage_and_truncated_files_are_set_aside() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(300));
    let whole = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut garbage = vec![0; 20_000];
    rng.fill(&mut garbage);
    let mut contents = vec![b"x".to_vec(), vec![0; 8_192], garbage];
    contents.extend((1..20).map(|part| whole[..whole.len() * part / 20].to_vec()));
    for content in contents {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("decisions.redb");
        put(&path, &content);
        assert!(
            matches!(reason_set_aside(&path, AGENT), SetAsideReason::Damaged(_)),
            "{} bytes",
            content.len()
        );
    }
}

#[test]
fn a_flipped_bit_changes_no_decision() {
    let directory = TempDir::new().unwrap();
    let records = sorted(all(100));
    let path = written(&directory, &records);
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut detected = 0;
    for _ in 0..120 {
        let mut content = whole.clone();
        content[used[rng.usize(..used.len())]] ^= 1 << rng.u8(..8);
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("decisions.redb");
        put(&path, &content);
        match DecisionStore::open(&path, AGENT) {
            Ok(OpenedStore {
                records: found,
                set_aside: None,
                ..
            }) => assert_eq!(sorted(found), records),
            Ok(OpenedStore {
                records: found,
                set_aside: Some(_),
                ..
            }) => {
                assert!(is_empty(&found));
                detected += 1;
            }
            Err(error) => panic!("a damaged file prevented the open: {error}"),
        }
    }
    // Most of the others hit unused pages.
    assert!(detected > 20, "{detected} of 120 flips detected");
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
fn a_crash_between_two_commits_leaves_the_first_one() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(5));
    let store = DecisionStore::open(&path, AGENT).unwrap().store;
    let transaction = store.database.begin_write().unwrap();
    transaction
        .open_table(DECISIONS)
        .unwrap()
        .retain(|_, _| false)
        .unwrap();
    // As after a kill: the file is not closed, the transaction not committed.
    let content = fs::read(&path).unwrap();
    let after = directory.path().join("after");
    put(&after, &content);
    let opened = DecisionStore::open(&after, AGENT).unwrap();
    assert_eq!((sorted(opened.records), opened.set_aside), (sorted(all(5)), None));
}

#[test]
fn a_missing_directory_sets_nothing_aside() {
    let directory = TempDir::new().unwrap();
    let opened = DecisionStore::open(&directory.path().join("no/decisions.redb"), AGENT);
    assert!(matches!(opened, Err(StoreError::Io(_))), "{opened:?}");
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
