//! Cost of loading the stored decisions, and of writing one decision.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use authz::{DecisionStore, OpenedStore};
use criterion::{Criterion, criterion_group, criterion_main};
use ocserv_agent_model::{Grant, Username, Verdict};
use resilience::{CacheKey, Changes, Record, Records};

const ENTRIES: u32 = 10_000;

fn record(number: u32) -> Option<Record> {
    let username = Username::parse(&format!("user{number}@example.org")).ok()?;
    let client_ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number));
    let routes = vec!["10.0.0.0/8".to_owned(), "192.168.0.0/16".to_owned()];
    Some(Record {
        key: CacheKey {
            username,
            group: None,
            client_ip,
            vhost: None,
        },
        verdict: Verdict::Allow(Grant {
            routes: routes.into(),
            dns_servers: [].into(),
        }),
        asked: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    })
}

#[expect(clippy::expect_used, reason = "without the file there is nothing to measure")]
fn open(path: &Path) -> OpenedStore {
    DecisionStore::open(path, "vpn1", |_| {}).expect("a file in a directory of our own")
}

#[expect(clippy::expect_used, reason = "without the file there is nothing to measure")]
fn store(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("decisions.redb");
    let decisions = |count| Records {
        decisions: (0..count).filter_map(record).collect(),
        ..Records::default()
    };
    let one = Changes::Partial {
        put: decisions(1),
        removed_answers: Vec::new(),
        removed_revocations: Vec::new(),
    };
    open(&path)
        .store
        .save(&Changes::Full(decisions(ENTRIES)))
        .expect("room on the disk");

    criterion.bench_function("load_10000_decisions", |bencher| {
        bencher.iter(|| assert_eq!(open(&path).records.decisions.len(), ENTRIES as usize));
    });
    let mut store = open(&path).store;
    criterion.bench_function("save_one_decision", |bencher| {
        bencher.iter(|| store.save(&one).is_ok());
    });
}

criterion_group!(benches, store);
criterion_main!(benches);
