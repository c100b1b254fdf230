//! Cost of a cached decision and of the breaker, beside one `HashMap` get with the same key.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use ocserv_agent_model::{Grant, GroupName, Username, Verdict, VhostName};
use resilience::{
    Admission, Breaker, BreakerSettings, Cache, CacheKey, CacheSettings, CallOutcome, Lookup, Now,
    SharedAdmission, SharedBreaker, StaleMatch, Ttl,
};

const ENTRIES: u32 = 10_000;

const BREAKER: BreakerSettings = BreakerSettings {
    failure_threshold: 5,
    interval: Duration::from_secs(60),
    timeout: Duration::from_secs(30),
    max_requests: 1,
};

fn keys() -> Vec<CacheKey> {
    let key = |n: u32| {
        Some(CacheKey {
            username: Username::parse(&format!("user{n}@example.org")).ok()?,
            group: GroupName::parse("staff").ok(),
            client_ip: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)),
            vhost: VhostName::parse("default").ok(),
        })
    };
    (0..ENTRIES).filter_map(key).collect()
}

#[expect(clippy::disallowed_methods, reason = "one instant for all measurements")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

fn cores(criterion: &mut Criterion) {
    let (now, keys) = (now(), keys());
    let mut cache = Cache::new(CacheSettings {
        ttl: Duration::from_secs(300),
        stale_ttl: Duration::from_secs(1_800),
        deny_ttl: Duration::from_secs(30),
        max_ttl: Duration::from_secs(86_400),
        max_size: ENTRIES as usize,
        max_per_user: 16,
        stale_match: StaleMatch::Exact,
    });
    for key in &keys {
        let query = cache.start_query(key.clone(), now);
        cache.store(query, Verdict::Allow(Grant::default()), Ttl::Default);
    }
    let floor: HashMap<CacheKey, Verdict> = keys
        .iter()
        .map(|key| (key.clone(), Verdict::Allow(Grant::default())))
        .collect();

    // Both iterate over the keys in the same order, so that both miss the processor's caches alike.
    let mut order = keys.iter().cycle().step_by(7_919);
    criterion.bench_function("hashmap_get_floor", |bencher| {
        bencher.iter(|| order.next().map(|key| black_box(floor.get(key)).is_some()));
    });
    let mut order = keys.iter().cycle().step_by(7_919);
    criterion.bench_function("cache_lookup", |bencher| {
        bencher.iter(|| {
            order
                .next()
                .map(|key| matches!(black_box(cache.lookup(key, now)), Lookup::Fresh(_)))
        });
    });

    let mut breaker = Breaker::new(BREAKER);
    criterion.bench_function("breaker_admit_settle", |bencher| {
        bencher.iter(|| match breaker.admit(black_box(now.mono)).0 {
            Admission::Call(permit) | Admission::Probe(permit) => {
                breaker.settle(permit, CallOutcome::Success, now.mono)
            }
            Admission::Refused { .. } => None,
        });
    });
    let shared = SharedBreaker::new(BREAKER);
    criterion.bench_function("shared_breaker_admit_settle", |bencher| {
        bencher.iter(|| match shared.admit(black_box(now.mono)).0 {
            SharedAdmission::Admitted(permit) => permit.settle(CallOutcome::Success, now.mono),
            SharedAdmission::Refused { .. } => None,
        });
    });
}

criterion_group!(benches, cores);
criterion_main!(benches);
