//! Tests of the cache.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Instant, SystemTime};

use ocserv_agent_model::{DenyCode, Grant};

use super::*;

mod bounds;
mod changes;
mod denials;
mod restart;
mod revocations;

const SETTINGS: CacheSettings = CacheSettings {
    ttl: Duration::from_secs(300),
    stale_ttl: Duration::from_secs(1_800),
    deny_ttl: Duration::from_secs(30),
    max_ttl: Duration::from_secs(86_400),
    max_size: 4,
    max_per_user: 4,
    stale_match: StaleMatch::Exact,
};

/// A time that is a number of seconds, on both clocks.
fn at(seconds: u64) -> Now {
    static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "the base of the test's times; it is read once"
    )]
    let base = *BASE.get_or_init(Instant::now);
    let since = Duration::from_secs(seconds);
    Now {
        mono: base + since,
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + since,
    }
}

/// The same moment with the wall clock set back.
fn set_back(now: Now, seconds: u64) -> Now {
    Now {
        wall: now.wall - Duration::from_secs(seconds),
        ..now
    }
}

fn user(name: &str) -> Username {
    Username::parse(name).unwrap()
}

fn key(name: &str, host: u8) -> CacheKey {
    let client_ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
    CacheKey {
        username: user(name),
        group: None,
        client_ip,
        vhost: None,
    }
}

fn allow() -> Verdict {
    Verdict::Allow(Grant::default())
}

fn deny() -> Verdict {
    Verdict::deny(DenyCode::Policy, "no")
}

fn put(cache: &mut Cache, key: &CacheKey, verdict: Verdict, ttl: Ttl, now: Now) -> StoreResult {
    let query = cache.start_query(key.clone(), now);
    cache.store(query, verdict, ttl)
}

fn cache(settings: CacheSettings, content: &[(&CacheKey, Verdict, u64)]) -> Cache {
    let mut cache = Cache::new(settings);
    for (key, verdict, seconds) in content {
        put(&mut cache, key, verdict.clone(), Ttl::Default, at(*seconds));
    }
    cache
}

fn fresh(cache: &mut Cache, key: &CacheKey, now: Now) -> bool {
    matches!(cache.lookup(key, now), Lookup::Fresh(_))
}

fn take_changes(cache: &mut Cache) -> Changes {
    let mut collector = ChangeCollector::default();
    while cache.collect(&mut collector) {}
    collector.finish()
}

/// Returns whether the answer that serves in an outage is an allow, and its age in seconds.
fn in_outage(cache: &mut Cache, key: &CacheKey, now: Now) -> Option<(bool, u64)> {
    cache
        .stale_answer(key, now)
        .map(|answer| (answer.verdict.is_allow(), answer.age.as_secs()))
}

#[test]
fn an_answer_is_fresh_for_exactly_its_ttl() {
    let minute = Ttl::For(Duration::from_secs(60));
    for (verdict, ttl, lives) in [
        (allow(), Ttl::Default, 300),
        (deny(), Ttl::Default, 30),
        (allow(), minute, 60),
        (deny(), minute, 60),
        (allow(), Ttl::For(Duration::MAX), 86_400),
    ] {
        let (mut cache, key) = (Cache::new(SETTINGS), key("alice", 1));
        assert_eq!(
            put(&mut cache, &key, verdict.clone(), ttl, at(0)),
            StoreResult::Stored
        );
        let hit = cache.lookup(&key, at(lives - 1));
        assert!(
            matches!(hit, Lookup::Fresh(ref hit) if hit.age.as_secs() == lives - 1),
            "{verdict:?} {ttl:?} {hit:?}"
        );
        assert_eq!(
            cache.lookup(&key, at(lives)),
            Lookup::Stale {
                age: Duration::from_secs(lives)
            }
        );
    }
}

#[test]
fn an_allow_with_a_ttl_of_zero_is_not_stored_and_drops_the_earlier_answer() {
    let key = key("alice", 1);
    let mut cache = cache(SETTINGS, &[(&key, allow(), 0)]);
    assert_eq!(
        put(&mut cache, &key, allow(), Ttl::from(Some(Duration::ZERO)), at(1)),
        StoreResult::NotStored
    );
    assert_eq!(cache.lookup(&key, at(1)), Lookup::Missing);
    assert_eq!(in_outage(&mut cache, &key, at(1)), None);
}

#[test]
fn the_key_is_compared_whole() {
    let known = key("alice", 1);
    let mut cache = cache(SETTINGS, &[(&known, allow(), 0)]);
    let group = Some(ocserv_agent_model::GroupName::parse("staff").unwrap());
    let vhost = Some(ocserv_agent_model::VhostName::parse("default").unwrap());
    for other in [
        key("Alice", 1),
        key("alice", 2),
        CacheKey {
            group,
            ..known.clone()
        },
        CacheKey {
            vhost,
            ..known.clone()
        },
        CacheKey {
            client_ip: "::ffff:192.0.2.1".parse().unwrap(),
            ..known.clone()
        },
    ] {
        assert_eq!(cache.lookup(&other, at(1)), Lookup::Missing, "{other:?}");
    }
    assert!(fresh(&mut cache, &known, at(1)));
}

#[test]
fn in_an_outage_an_allow_serves_until_stale_ttl_and_a_deny_for_ever() {
    let key = key("alice", 1);
    for (verdict, seconds, expected) in [
        (allow(), 301, Some((true, 301))),
        (allow(), 1_799, Some((true, 1_799))),
        (allow(), 1_800, None),
        (deny(), 31, Some((false, 31))),
        (deny(), 1_800, Some((false, 1_800))),
        (deny(), 1_000_000, Some((false, 1_000_000))),
    ] {
        let mut cache = cache(SETTINGS, &[(&key, verdict.clone(), 0)]);
        assert_eq!(
            in_outage(&mut cache, &key, at(seconds)),
            expected,
            "{verdict:?} after {seconds} s"
        );
    }
}

#[test]
fn with_stale_match_user_the_latest_decision_serves_from_any_address() {
    let (home, office, road) = (key("alice", 1), key("alice", 2), key("alice", 3));
    let user = CacheSettings {
        stale_match: StaleMatch::User,
        ..SETTINGS
    };
    for (settings, content, asked, expected) in [
        (SETTINGS, vec![(&home, allow(), 0)], &road, None),
        (user, vec![(&home, allow(), 0)], &road, Some((true, 100))),
        (
            user,
            vec![(&home, allow(), 0), (&office, deny(), 10)],
            &road,
            Some((false, 90)),
        ),
        (
            user,
            vec![(&home, deny(), 0), (&office, allow(), 10)],
            &road,
            Some((true, 90)),
        ),
        // The latest decision is a deny, even if this address was allowed before.
        (
            user,
            vec![(&home, allow(), 0), (&office, deny(), 10)],
            &home,
            Some((false, 90)),
        ),
        // A deny for exactly this login stays a deny.
        (
            user,
            vec![(&home, deny(), 0), (&office, allow(), 10)],
            &home,
            Some((false, 100)),
        ),
        (
            SETTINGS,
            vec![(&home, allow(), 0), (&office, deny(), 10)],
            &home,
            Some((true, 100)),
        ),
    ] {
        let mut cache = cache(settings, &content);
        assert_eq!(
            in_outage(&mut cache, asked, at(100)),
            expected,
            "{content:?} {asked:?}"
        );
    }
    let elsewhere = CacheKey {
        vhost: Some(ocserv_agent_model::VhostName::parse("b").unwrap()),
        ..road
    };
    assert_eq!(
        in_outage(&mut cache(user, &[(&home, allow(), 0)]), &elsewhere, at(1)),
        None,
        "another vhost"
    );
}

#[test]
fn an_answer_from_before_an_invalidation_is_not_stored() {
    let mut cache = Cache::new(SETTINGS);
    let keys = [key("alice", 1), key("alice", 2), key("bob", 1)];
    let queries = keys.clone().map(|key| cache.start_query(key, at(0)));
    cache.revoke_user(&user("alice"), "", at(0));
    let late = queries.map(|query| cache.store(query, allow(), Ttl::Default));
    assert_eq!(
        late,
        [
            StoreResult::Invalidated,
            StoreResult::Invalidated,
            StoreResult::Stored
        ]
    );
    for key in &keys {
        assert_eq!(
            put(&mut cache, key, allow(), Ttl::Default, at(1)),
            StoreResult::Stored,
            "a new query"
        );
    }
    assert_eq!(cache.revoke_user(&user("alice"), "", at(2)), 2);
    assert_eq!(cache.stats().size, 1);
}

#[test]
fn a_query_older_than_every_kept_invalidation_counts_as_invalidated() {
    let mut cache = Cache::new(SETTINGS);
    let start = |cache: &Cache| cache.start_query(key("alice", 1), at(0));
    let (old, young) = (start(&cache), {
        cache.revoke_user(&user("bob"), "", at(0));
        start(&cache)
    });
    for _ in 0..1_024 {
        cache.revoke_user(&user("bob"), "", at(0));
    }
    assert_eq!(cache.store(old, allow(), Ttl::Default), StoreResult::Invalidated);
    assert_eq!(cache.store(young, allow(), Ttl::Default), StoreResult::Stored);
}

#[test]
fn an_earlier_query_does_not_overwrite_the_answer_to_a_later_one() {
    let (mut cache, key) = (Cache::new(SETTINGS), key("alice", 1));
    let (early, later) = (
        cache.start_query(key.clone(), at(0)),
        cache.start_query(key.clone(), at(1)),
    );
    assert_eq!(cache.store(later, deny(), Ttl::Default), StoreResult::Stored);
    assert_eq!(cache.store(early, allow(), Ttl::Default), StoreResult::NotStored);
    assert_eq!(in_outage(&mut cache, &key, at(2)), Some((false, 1)));
}

#[test]
fn of_queries_that_started_at_once_the_last_answer_counts() {
    let (mut cache, key) = (Cache::new(SETTINGS), key("alice", 1));
    for verdict in [allow(), deny()] {
        let stored = put(&mut cache, &key, verdict, Ttl::Default, at(0));
        assert_eq!(stored, StoreResult::Stored);
    }
    assert_eq!(in_outage(&mut cache, &key, at(2)), Some((false, 2)));
}

#[test]
fn an_answer_in_the_last_fifth_of_its_ttl_requests_one_refresh() {
    let key = key("alice", 1);
    let mut cache = cache(SETTINGS, &[(&key, allow(), 0)]);
    let refresh = |cache: &mut Cache, seconds| match cache.lookup(&key, at(seconds)) {
        Lookup::Fresh(hit) => Some(hit.refresh),
        Lookup::Stale { .. } | Lookup::Missing => None,
    };
    let asked: Vec<_> = [0, 239, 240, 241, 299, 300]
        .map(|seconds| refresh(&mut cache, seconds))
        .into();
    assert_eq!(
        asked,
        [
            Some(false),
            Some(false),
            Some(true),
            Some(false),
            Some(false),
            None
        ]
    );
    put(&mut cache, &self::key("alice", 1), allow(), Ttl::Default, at(299));
    assert_eq!(
        refresh(&mut cache, 299 + 240),
        Some(true),
        "the next answer requests a refresh of its own"
    );
}

#[test]
fn a_wall_clock_that_went_backwards_makes_answers_stale_and_they_keep_ageing() {
    let key = key("alice", 1);
    let mut cache = cache(SETTINGS, &[(&key, allow(), 0)]);
    assert!(fresh(&mut cache, &key, at(1)));
    let back = |seconds| set_back(at(seconds), 86_400);
    assert_eq!(
        cache.lookup(&key, back(1)),
        Lookup::Stale {
            age: Duration::from_secs(1)
        }
    );
    assert_eq!(in_outage(&mut cache, &key, back(1_799)), Some((true, 1_799)));
    assert_eq!(in_outage(&mut cache, &key, back(1_800)), None);
}

#[test]
fn a_wall_clock_ahead_of_the_monotonic_one_ages_answers() {
    let key = key("alice", 1);
    let mut cache = cache(SETTINGS, &[(&key, allow(), 0)]);
    let resumed = Now {
        wall: at(400).wall,
        ..at(1)
    };
    assert_eq!(
        cache.lookup(&key, resumed),
        Lookup::Stale {
            age: Duration::from_secs(400)
        }
    );
}

#[test]
fn statistics_count_hits_misses_and_evictions() {
    let (one, two) = (key("alice", 1), key("bob", 1));
    let mut cache = cache(
        CacheSettings {
            max_size: 1,
            ..SETTINGS
        },
        &[(&one, allow(), 0)],
    );
    assert!(fresh(&mut cache, &one, at(1)));
    assert!(!fresh(&mut cache, &one, at(300)));
    assert!(!fresh(&mut cache, &two, at(1)));
    assert!(cache.stale_answer(&one, at(300)).is_some());
    put(&mut cache, &two, allow(), Ttl::Default, at(300));
    let stats = cache.stats();
    assert_eq!(
        stats,
        CacheStats {
            hits: 1,
            misses: 2,
            stale_hits: 1,
            evictions: 1,
            size: 1,
            ..CacheStats::default()
        }
    );
    assert!((stats.hit_ratio() - 1.0 / 3.0).abs() < 1e-9);
}
