//! Tests of the cache's bounds, and of what one user can push out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn sized(max_size: usize, max_per_user: usize) -> CacheSettings {
    CacheSettings {
        max_size,
        max_per_user,
        ..SETTINGS
    }
}

fn roaming(name: &str, number: u32) -> CacheKey {
    CacheKey {
        client_ip: IpAddr::V4(Ipv4Addr::from_bits(number)),
        ..key(name, 1)
    }
}

/// An allow of about `bytes` bytes.
fn large(bytes: usize) -> Verdict {
    Verdict::Allow(Grant {
        routes: ["x".repeat(bytes)].into(),
        dns_servers: [].into(),
    })
}

/// Checks that answers, index and counts agree.
fn check(cache: &Cache) {
    let (allows, denies): (BTreeSet<_>, BTreeSet<_>) =
        (cache.allows.keys().collect(), cache.denies.keys().collect());
    let mut indexed: BTreeMap<&Username, Vec<&CacheKey>> = BTreeMap::new();
    let mut denied = 0;
    for (username, user) in cache.users.after(None) {
        assert!(
            !user.answers.is_empty() || user.denied.is_some(),
            "{username:?} has an entry"
        );
        denied += usize::from(user.denied.is_some());
        indexed.insert(username, user.answers.iter().map(|answer| &*answer.key).collect());
    }
    let mut all: Vec<_> = indexed.values().flatten().copied().collect();
    assert!(
        indexed
            .iter()
            .all(|(user, keys)| keys.iter().all(|key| key.username == **user))
    );
    assert_eq!(all.len(), allows.len() + denies.len());
    all.sort();
    assert_eq!(all, allows.union(&denies).copied().collect::<Vec<_>>());
    assert!(allows.is_disjoint(&denies));
    for answers in [&allows, &denies] {
        assert!(answers.len() <= cache.settings.max_size);
        for keys in indexed.values() {
            let of_user = keys.iter().filter(|key| answers.contains(*key)).count();
            assert!(of_user <= cache.settings.max_per_user);
        }
    }
    assert_eq!(cache.users.denied_count(), denied);
    for answer in cache.users.after(None).flat_map(|(_, user)| &user.answers) {
        assert_eq!(answer.is_allow, allows.contains(&*answer.key));
    }
    let stats = cache.stats();
    assert_eq!((stats.size, stats.denied_users), (all.len(), denied));
}

/// The keys of logins of this many users.
fn users(count: u32) -> Vec<CacheKey> {
    (0..count)
        .map(|number| key(&format!("user{number}"), 1))
        .collect()
}

fn count_fresh(cache: &mut Cache, keys: &[CacheKey]) -> usize {
    keys.iter().filter(|key| fresh(cache, key, at(1))).count()
}

#[test]
fn a_user_who_logs_in_from_ever_new_addresses_evicts_nobody_else() {
    let mut cache = Cache::new(sized(10_000, 16));
    let others = users(9_000);
    for other in &others {
        put(&mut cache, other, allow(), Ttl::Default, at(0));
    }
    for number in 0..100_000_u32 {
        let verdict = if number % 2 == 0 { allow() } else { deny() };
        put(
            &mut cache,
            &roaming("alice", number),
            verdict,
            Ttl::Default,
            at(0),
        );
    }
    let kept = count_fresh(&mut cache, &others);
    assert_eq!((kept, cache.stats().size), (9_000, 9_000 + 2 * 16));
    assert!(fresh(&mut cache, &roaming("alice", 99_998), at(1)));
    check(&cache);
}

#[test]
fn users_who_log_in_once_evict_nobody_who_logs_in_again() {
    let mut cache = Cache::new(sized(10_000, 16));
    let others = users(9_000);
    for other in &others {
        put(&mut cache, other, allow(), Ttl::Default, at(0));
        assert!(fresh(&mut cache, other, at(0)));
    }
    for number in 0..30_000_u32 {
        put(
            &mut cache,
            &key(&format!("once{number}"), 1),
            allow(),
            Ttl::Default,
            at(0),
        );
    }
    let kept = count_fresh(&mut cache, &others);
    assert_eq!((kept, cache.stats().size), (9_000, 10_000));
}

#[test]
fn no_number_of_allows_evicts_a_deny() {
    let mut cache = cache(sized(10, 4), &[(&key("eve", 1), deny(), 0)]);
    for number in 0..10_000_u32 {
        put(
            &mut cache,
            &key(&format!("user{number}"), 1),
            allow(),
            Ttl::Default,
            at(0),
        );
        put(&mut cache, &roaming("eve", number), allow(), Ttl::Default, at(0));
    }
    assert_eq!(in_outage(&mut cache, &key("eve", 1), at(1)), Some((false, 1)));
    check(&cache);
}

#[test]
fn a_large_answer_counts_as_several_and_one_larger_than_the_cache_is_not_stored() {
    let mut cache = Cache::new(sized(100, 16));
    for number in 0..100_u32 {
        put(
            &mut cache,
            &key(&format!("user{number}"), 1),
            large(40_000),
            Ttl::Default,
            at(0),
        );
        check(&cache);
    }
    assert!((5..=10).contains(&cache.stats().size), "{:?}", cache.stats());
    let alice = key("alice", 1);
    put(&mut cache, &alice, allow(), Ttl::Default, at(0));
    assert_eq!(
        put(&mut cache, &alice, large(500_000), Ttl::Default, at(1)),
        StoreResult::NotStored
    );
    assert_eq!(
        cache.lookup(&alice, at(1)),
        Lookup::Missing,
        "nor is the earlier answer kept"
    );
    check(&cache);
}

#[test]
fn every_part_of_an_answer_counts_to_its_size() {
    let weight =
        |key: &CacheKey, verdict: &Verdict| CachedAnswer::new(key, verdict.clone(), at(0), None).weight;
    let plain = key("a", 1);
    let base = size_of::<CacheKey>() + size_of::<CachedAnswer>() + plain.username.as_str().len();
    let full = large(4_096 - base - size_of::<String>());
    assert_eq!(weight(&plain, &full), 1);
    for larger in [
        key("ab", 1),
        CacheKey {
            group: ocserv_agent_model::GroupName::parse("g").ok(),
            ..plain.clone()
        },
        CacheKey {
            vhost: ocserv_agent_model::VhostName::parse("v").ok(),
            ..plain.clone()
        },
    ] {
        assert_eq!(weight(&larger, &full), 2, "{larger:?}");
    }
    let Verdict::Allow(grant) = &full else { panic!() };
    let with_dns = Verdict::Allow(Grant {
        dns_servers: [plain.client_ip].into(),
        ..grant.clone()
    });
    assert_eq!(weight(&plain, &with_dns), 2);
    assert_eq!(weight(&plain, &large(8_192 - base - size_of::<String>())), 2);
    for (length, units) in [(4_096 - base, 1), (4_097 - base, 2)] {
        let verdict = Verdict::deny(DenyCode::Policy, "x".repeat(length));
        assert_eq!(weight(&plain, &verdict), units, "a reason of {length} bytes");
    }
}

#[test]
fn what_decides_no_login_any_more_is_swept_in_bounded_steps() {
    let mut cache = Cache::new(sized(1_000, 16));
    for number in 0..100_u32 {
        put(
            &mut cache,
            &key(&format!("allowed{number:03}"), 1),
            allow(),
            Ttl::Default,
            at(0),
        );
        cache.revoke_user(&user(&format!("revoked{number:03}")), "", at(0));
    }
    let long = Ttl::For(Duration::from_secs(86_400));
    put(&mut cache, &key("long", 1), allow(), long, at(0));
    put(&mut cache, &key("denied", 1), deny(), Ttl::Default, at(0));
    let young = key("young", 1);
    put(&mut cache, &young, allow(), Ttl::Default, at(1_000));
    let round = |cache: &mut Cache, now| {
        1 + std::iter::repeat_with(|| cache.sweep(now))
            .take_while(|more| *more)
            .count()
    };
    let sizes = |cache: &Cache| (cache.stats().size, cache.stats().denied_users);
    assert_eq!((round(&mut cache, at(1_799)), sizes(&cache)), (4, (103, 101)));
    take_changes(&mut cache);
    assert!(cache.sweep(at(1_800)));
    assert_eq!(sizes(&cache), (103 - 64, 101), "a step visits 64 users");
    round(&mut cache, at(1_800));
    assert_eq!(sizes(&cache), (3, 1));
    let Changes::Partial {
        put,
        removed_answers,
        removed_revocations,
    } = take_changes(&mut cache)
    else {
        panic!()
    };
    assert_eq!(
        (put, removed_answers.len(), removed_revocations.len()),
        (Records::default(), 100, 100)
    );
    round(&mut cache, at(86_400));
    assert_eq!(sizes(&cache), (1, 1), "a deny is kept");
    check(&cache);
}

#[test]
fn a_smaller_cache_keeps_the_latest_answers() {
    let mut cache = Cache::new(sized(100, 16));
    let keys: Vec<_> = (0..100).map(|number| key(&format!("user{number}"), 1)).collect();
    for (seconds, key) in (0..).zip(&keys) {
        put(&mut cache, key, allow(), Ttl::Default, at(seconds));
    }
    cache.configure(sized(10, 16));
    check(&cache);
    assert_eq!(cache.stats().size, 10);
    let kept = |cache: &mut Cache, key| fresh(cache, key, at(100));
    assert!(keys[91..].iter().all(|key| kept(&mut cache, key)));
    cache.configure(sized(100, 16));
    assert_eq!(cache.stats().size, 10);
    for key in &keys[..50] {
        put(&mut cache, key, allow(), Ttl::Default, at(100));
    }
    assert_eq!(cache.stats().size, 60);
    check(&cache);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_index_agree_after_any_sequence(
        (max_size, max_per_user) in (0..12_usize, 1..4_usize),
        steps in prop::collection::vec((0..10_u8, 0..4_u8, 0..6_u8, any::<bool>()), 1..200),
    ) {
        let mut cache = Cache::new(sized(max_size, max_per_user));
        for (second, (step, name, host, flag)) in (0..).zip(steps) {
            let now = at(second * 60);
            let key = key(["alice", "bob", "carol", "dave"][usize::from(name)], host);
            match step {
                0..4 => {
                    let verdict = if flag { allow() } else { deny() };
                    put(&mut cache, &key, verdict, [Ttl::Default, Ttl::Zero][usize::from(step == 0)], now);
                }
                4 => drop(put(&mut cache, &key, large(usize::from(host) * 8_000), Ttl::Default, now)),
                5 => drop(fresh(&mut cache, &key, now)),
                6 | 7 => drop(cache.revoke_user(&key.username, "", now)),
                8 => drop(cache.sweep(now)),
                _ => cache.configure(sized(if flag { max_size } else { max_size / 2 }, max_per_user)),
            }
            check(&cache);
        }
        let Changes::Full(records) = ({ cache.mark_all_changed(); take_changes(&mut cache) }) else { panic!() };
        let mut restored = Cache::new(cache.settings);
        restored.restore(records, at(0));
        check(&restored);
        let (before, after) = (cache.users.denied_count(), restored.users.denied_count());
        if restored.forgot_denies() || !cache.forgot_denies() {
            prop_assert_eq!(after, before.min(cache.settings.max_size));
        } else {
            prop_assert!(after <= before, "with more room, users that are not denied any more are left out");
        }
    }
}
