//! The file: what comes back, and what is not believed.

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
        routes: vec!["10.0.0.0/8".to_owned()],
        dns_servers: vec!["2001:db8::1".parse().unwrap()],
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
            let place = AccessScope {
                group: key.group,
                vhost: key.vhost,
            };
            Revocation {
                username: key.username,
                reason: "left\nwith a line".to_owned(),
                at: asked,
                allowed_since: vec![place; number as usize % 3],
            }
        })
        .collect()
}

/// So many decisions, and a tenth of it of revocations.
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
fn ten_thousand_decisions_and_a_thousand_revocations_come_back_as_they_were() {
    let directory = TempDir::new().unwrap();
    let records = all(10_000);
    let path = written(&directory, &records);
    let opened = DecisionStore::open(&path, AGENT).unwrap();
    assert_eq!(sorted(opened.records), sorted(records));
    assert_eq!(opened.set_aside, None);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn changes_are_followed() {
    let directory = TempDir::new().unwrap();
    let before = all(20);
    let path = written(&directory, &before);
    let mut changed = before.decisions[1].clone();
    changed.verdict = Verdict::deny(DenyCode::Policy, "");
    let removed_answers = vec![
        before.decisions[0].key.clone(),
        record(99, changed.verdict.clone()).key,
    ];
    let mut again = before.revocations[1].clone();
    again.allowed_since.clear();
    let store = DecisionStore::open(&path, AGENT).unwrap().store;
    let put = Records {
        decisions: vec![changed],
        revocations: vec![again],
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
fn a_file_of_the_format_before_this_one_is_read_and_learns_what_it_lacked() {
    let directory = TempDir::new().unwrap();
    let before = Records {
        decisions: records(3),
        ..Records::default()
    };
    let path = written(&directory, &before);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(ABOUT)
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
        about(&database, "version").ok().as_deref(),
        Some(VERSION),
        "an older program does not take it for its own"
    );
}

/// Opens a file that is not to be believed: it is set aside, and the next start is a clean one.
fn distrusted(path: &Path, agent_id: &str) -> Why {
    let opened = DecisionStore::open(path, agent_id).unwrap();
    assert!(is_empty(&opened.records));
    let set_aside = opened.set_aside.expect("the file was believed");
    assert!(
        fs::symlink_metadata(&set_aside.path).is_ok(),
        "the file is kept for a look"
    );
    opened.store.save(&Changes::Full(all(1))).unwrap();
    drop(opened.store);
    let again = DecisionStore::open(path, agent_id).unwrap();
    assert_eq!((again.records, again.set_aside), (all(1), None));
    set_aside.why
}

#[test]
fn a_file_of_another_agent_or_of_a_newer_program_is_set_aside() {
    let directory = TempDir::new().unwrap();
    assert_eq!(
        distrusted(&written(&directory, &all(3)), "vpn2"),
        Why::Foreign(AGENT.to_owned())
    );
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(3));
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(ABOUT)
        .unwrap()
        .insert("version", "3")
        .unwrap();
    transaction.delete_table(DECISIONS).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(distrusted(&path, AGENT), Why::Newer("3".to_owned()));
    let database = Database::open(directory.path().join("decisions.redb.newer")).unwrap();
    let about = database.begin_read().unwrap().open_table(ABOUT).unwrap();
    assert_eq!(
        about.get("version").unwrap().unwrap().value(),
        "3",
        "what it says was not overwritten"
    );
}

#[test]
fn a_file_that_others_could_write_or_read_is_set_aside() {
    for mode in [0o604, 0o620, 0o640] {
        let directory = TempDir::new().unwrap();
        let path = written(&directory, &all(3));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(distrusted(&path, AGENT), Why::Exposed, "{mode:o}");
    }
    let directory = TempDir::new().unwrap();
    let target = written(&directory, &all(3));
    let path = directory.path().join("link");
    symlink(&target, &path).unwrap();
    assert_eq!(distrusted(&path, AGENT), Why::Exposed);
    assert_eq!(
        DecisionStore::open(&target, AGENT).unwrap().records,
        sorted(all(3)),
        "what a link names is not touched"
    );
    let path = directory.path().join("other name");
    fs::hard_link(&target, &path).unwrap();
    assert_eq!(distrusted(&path, AGENT), Why::Exposed);
}

#[test]
fn garbage_and_a_cut_at_any_place_are_set_aside() {
    let directory = TempDir::new().unwrap();
    let path = written(&directory, &all(300));
    let whole = fs::read(&path).unwrap();
    let mut dice = fastrand::Rng::with_seed(7);
    let mut garbage = vec![0; 20_000];
    dice.fill(&mut garbage);
    let mut contents = vec![b"x".to_vec(), vec![0; 8_192], garbage];
    contents.extend((1..20).map(|part| whole[..whole.len() * part / 20].to_vec()));
    for content in contents {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("decisions.redb");
        put(&path, &content);
        assert!(
            matches!(distrusted(&path, AGENT), Why::Damaged(_)),
            "{} bytes",
            content.len()
        );
    }
}

#[test]
fn a_flipped_bit_changes_nobodys_decision() {
    let directory = TempDir::new().unwrap();
    let records = sorted(all(100));
    let path = written(&directory, &records);
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut dice = fastrand::Rng::with_seed(7);
    let mut noticed = 0;
    for _ in 0..120 {
        let mut content = whole.clone();
        content[used[dice.usize(..used.len())]] ^= 1 << dice.u8(..8);
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("decisions.redb");
        put(&path, &content);
        match DecisionStore::open(&path, AGENT) {
            Ok(Opened {
                records: found,
                set_aside: None,
                ..
            }) => assert_eq!(sorted(found), records),
            Ok(Opened {
                records: found,
                set_aside: Some(_),
                ..
            }) => {
                assert!(is_empty(&found));
                noticed += 1;
            }
            Err(error) => panic!("a damaged file kept the store from opening: {error}"),
        }
    }
    // Most of the rest hit pages that no longer hold anything.
    assert!(noticed > 20, "{noticed} of 120 flips noticed");
}

#[test]
fn an_entry_that_is_not_what_was_written_is_not_read() {
    let (seal, other) = (Seal::new(AGENT), Seal::new("vpn2"));
    let (record, revocation) = (records(2).remove(1), revocations(3).remove(2));
    let ((key, value), (user, ended)) = (seal.encode(&record), seal.encode_revocation(&revocation));
    assert_eq!(seal.decode(&key, &value), Some(record));
    assert_eq!(seal.decode_revocation(&user, &ended), Some(revocation));
    assert_eq!(other.decode(&key, &value), None, "another agent's");
    assert_eq!(other.decode_revocation(&user, &ended), None, "another agent's");
    each_flip(&key, &value, |key, value| {
        assert_eq!(seal.decode(key, value), None);
    });
    each_flip(&user, &ended, |user, ended| {
        assert_eq!(seal.decode_revocation(user, ended), None);
    });
    assert_eq!(
        (seal.decode(&key, &value[..7]), seal.decode(&key, &[])),
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
    // What a killed process leaves: the file as it is now, not closed, the transaction not committed.
    let left = fs::read(&path).unwrap();
    let after = directory.path().join("after");
    put(&after, &left);
    let opened = DecisionStore::open(&after, AGENT).unwrap();
    assert_eq!((sorted(opened.records), opened.set_aside), (sorted(all(5)), None));
}

#[test]
fn a_missing_directory_is_no_reason_to_set_anything_aside() {
    let directory = TempDir::new().unwrap();
    let opened = DecisionStore::open(&directory.path().join("no/decisions.redb"), AGENT);
    assert!(matches!(opened, Err(StoreError::Io(_))), "{opened:?}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own file, which no crash will meet"
)]
fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
