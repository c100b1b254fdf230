//! Tests of revoked users: no outage allows them.

use std::collections::{BTreeMap, BTreeSet};

use ocserv_agent_model::{GroupName, VhostName};
use proptest::prelude::*;

use super::restart::OnDisk;
use super::*;

const STALE_TTL: u64 = 1_800;

fn matching(stale_match: StaleMatch) -> CacheSettings {
    CacheSettings {
        stale_match,
        max_size: 100,
        ..SETTINGS
    }
}

/// Returns a login with the given address, group and vhost.
fn login(name: &str, host: u8, group: u8, vhost: u8) -> CacheKey {
    CacheKey {
        group: [None, GroupName::parse("staff").ok()][usize::from(group)].clone(),
        vhost: [None, VhostName::parse("b").ok()][usize::from(vhost)].clone(),
        ..key(name, host)
    }
}

#[test]
fn a_revoked_user_is_never_fresh_and_is_denied_in_outages_from_any_address() {
    for stale_match in [StaleMatch::Exact, StaleMatch::User] {
        let (allowed, denied, other) = (key("alice", 1), key("alice", 2), key("bob", 1));
        let known = [(&allowed, allow(), 0), (&denied, deny(), 0), (&other, allow(), 0)];
        let mut cache = cache(matching(stale_match), &known);
        assert_eq!(cache.revoke_user(&user("alice"), "account disabled", at(10)), 2);
        for login in [&allowed, &denied, &key("alice", 3), &login("alice", 3, 1, 1)] {
            assert!(!fresh(&mut cache, login, at(11)), "{login:?}");
            assert!(
                matches!(in_outage(&mut cache, login, at(11)), Some((false, _))),
                "{login:?}"
            );
        }
        let answer = cache.stale_answer(&allowed, at(11)).unwrap();
        if stale_match == StaleMatch::Exact {
            assert_eq!(
                answer.verdict,
                Verdict::deny(DenyCode::Policy, "account disabled")
            );
        }
        assert!(fresh(&mut cache, &other, at(11)));
    }
}

#[test]
fn an_allow_lifts_a_revocation_in_its_group_and_vhost_only_whatever_the_address() {
    for ttl in [Ttl::Default, Ttl::DoNotCache] {
        let mut cache = Cache::new(matching(StaleMatch::Exact));
        cache.revoke_user(&user("alice"), "", at(0));
        put(&mut cache, &login("alice", 1, 1, 0), allow(), ttl, at(1));
        for (other, expected) in [
            (login("alice", 2, 1, 0), None),
            (login("alice", 1, 0, 0), Some((false, 2))),
            (login("alice", 1, 1, 1), Some((false, 2))),
        ] {
            assert_eq!(
                in_outage(&mut cache, &other, at(2)),
                expected,
                "{ttl:?} {other:?}"
            );
        }
        cache.revoke_user(&user("alice"), "", at(3));
        let again = in_outage(&mut cache, &login("alice", 2, 1, 0), at(4));
        assert_eq!(again, Some((false, 1)), "{ttl:?}");
    }
}

#[test]
fn neither_a_deny_nor_an_earlier_answer_lifts_a_revocation() {
    let mut cache = Cache::new(matching(StaleMatch::Exact));
    let late = cache.start_query(key("alice", 1), at(0));
    cache.revoke_user(&user("alice"), "", at(1));
    assert_eq!(cache.store(late, allow(), Ttl::Default), StoreResult::Invalidated);
    put(&mut cache, &key("alice", 1), deny(), Ttl::Default, at(2));
    assert_eq!(in_outage(&mut cache, &key("alice", 2), at(3)), Some((false, 2)));
}

#[test]
fn an_allow_beyond_the_recorded_scopes_still_serves_its_own_key() {
    let mut cache = Cache::new(matching(StaleMatch::Exact));
    cache.revoke_user(&user("alice"), "", at(0));
    let in_group = |number: u8, host| CacheKey {
        group: GroupName::parse(&format!("group{number}")).ok(),
        ..key("alice", host)
    };
    for number in 0..30 {
        put(&mut cache, &in_group(number, 1), allow(), Ttl::Default, at(1));
    }
    assert_eq!(in_outage(&mut cache, &in_group(29, 1), at(2)), Some((true, 1)));
    assert_eq!(in_outage(&mut cache, &in_group(0, 2), at(2)), None);
    assert_eq!(in_outage(&mut cache, &in_group(29, 2), at(2)), Some((false, 2)));
}

#[test]
fn a_revocation_expires_after_stale_ttl_by_the_clock_that_is_ahead() {
    let mut cache = Cache::new(SETTINGS);
    cache.revoke_user(&user("alice"), "", at(0));
    let alice = key("alice", 1);
    let resumed = |wall| Now {
        wall: at(wall).wall,
        ..at(1)
    };
    for (now, expected) in [
        (at(STALE_TTL - 1), Some((false, STALE_TTL - 1))),
        (at(STALE_TTL), None),
        (set_back(at(STALE_TTL - 1), 86_400), Some((false, STALE_TTL - 1))),
        (set_back(at(STALE_TTL), 86_400), None),
        (resumed(STALE_TTL - 1), Some((false, STALE_TTL - 1))),
        (resumed(STALE_TTL), None),
    ] {
        assert_eq!(in_outage(&mut cache, &alice, now), expected, "{now:?}");
    }
    cache.configure(CacheSettings {
        stale_ttl: Duration::from_secs(60),
        ..SETTINGS
    });
    assert_eq!(in_outage(&mut cache, &alice, at(60)), None);
}

#[test]
fn at_most_max_size_revocations_are_kept_and_the_oldest_is_dropped_first() {
    let mut cache = Cache::new(SETTINGS);
    for number in 0..20_u8 {
        cache.revoke_user(&user(&format!("user{number}")), "", at(u64::from(number)));
    }
    cache.revoke_user(&user("user16"), "", at(20));
    cache.revoke_user(&user("alice"), "", at(21));
    let is_revoked = |cache: &mut Cache, name: &str| in_outage(cache, &key(name, 1), at(30)).is_some();
    let kept = ["user16", "user18", "user19", "alice"];
    assert!(kept.iter().all(|name| is_revoked(&mut cache, name)));
    assert!(!is_revoked(&mut cache, "user17"));
    assert_eq!(cache.revocations.records().count(), SETTINGS.max_size);
    cache.configure(CacheSettings {
        max_size: 1,
        ..SETTINGS
    });
    assert_eq!(cache.revocations.records().count(), 1);
    assert!(is_revoked(&mut cache, "alice"));
    cache.configure(SETTINGS);
    cache.revoke_user(&user("bob"), "", at(30 + STALE_TTL));
    let remaining: Vec<_> = cache
        .revocations
        .records()
        .map(|record| record.username)
        .collect();
    assert_eq!(remaining, [user("bob")], "expired revocations are dropped");
}

#[test]
fn a_revocation_outlives_restarts_with_its_true_age() {
    let alice = key("alice", 1);
    let mut before = Cache::new(SETTINGS);
    before.revoke_user(&user("alice"), "account disabled", at(0));
    before.revoke_user(&user("carol"), "", at(0));
    put(&mut before, &key("carol", 1), allow(), Ttl::DoNotCache, at(1));
    let mut disk = OnDisk::default();
    disk.apply(before.take_changes());
    let mut restart = |now: Now| {
        let mut cache = Cache::new(SETTINGS);
        cache.restore(disk.records(), now);
        disk.apply(cache.take_changes());
        cache
    };
    // The wall clock was set back, and the process restarted repeatedly.
    let back = |seconds| set_back(at(seconds), 86_400);
    assert_eq!(
        in_outage(&mut restart(at(100)), &alice, at(101)),
        Some((false, 101))
    );
    let answer = restart(at(100)).stale_answer(&alice, at(101)).unwrap();
    assert_eq!(
        answer.verdict,
        Verdict::deny(DenyCode::Policy, "account disabled")
    );
    assert_eq!(in_outage(&mut restart(at(100)), &key("carol", 2), at(101)), None);
    assert_eq!(
        in_outage(&mut restart(back(200)), &alice, back(210)),
        Some((false, 10))
    );
    assert_eq!(
        in_outage(&mut restart(back(1_000)), &alice, back(1_000)),
        Some((false, 800))
    );
    assert_eq!(in_outage(&mut restart(back(2_000)), &alice, back(2_000)), None);
    assert_eq!(disk, OnDisk::default(), "an expired revocation is deleted");
}

/// A reference implementation of the cache's answers in outages.
struct Reference {
    stale_match: StaleMatch,
    /// Key, whether it is an allow, and when it was asked; the one stored last at the end.
    answers: Vec<(CacheKey, bool, u64)>,
    /// When each user was revoked, and the scopes allowed since.
    revoked: BTreeMap<Username, (u64, BTreeSet<AccessScope>)>,
}

impl Reference {
    fn revoke(&mut self, user: &Username, now: u64) {
        self.answers
            .retain(|(key, is_allow, _)| key.username != *user || !is_allow);
        self.revoked.insert(user.clone(), (now, BTreeSet::new()));
    }

    fn store(&mut self, key: &CacheKey, is_allow: bool, keep: bool, asked: u64) {
        let revoked = self.revoked.get_mut(&key.username);
        let is_invalidated = revoked.as_ref().is_some_and(|(at, _)| *at > asked);
        let is_known = |(other, _, at): &(CacheKey, bool, u64)| other == key && *at > asked;
        if is_invalidated || self.answers.iter().any(is_known) {
            return;
        }
        if let Some((_, scopes)) = revoked.filter(|_| is_allow) {
            scopes.insert(key.scope());
        }
        self.answers.retain(|(other, ..)| other != key);
        if keep || !is_allow {
            self.answers.push((key.clone(), is_allow, asked));
        }
    }

    fn restart(&mut self, now: u64) {
        self.answers
            .retain(|(_, is_allow, asked)| !is_allow || now - asked < STALE_TTL);
        self.answers.sort_by_key(|(_, _, asked)| *asked);
    }

    fn in_outage(&self, key: &CacheKey, now: u64) -> Option<(bool, u64)> {
        let exact = self.answers.iter().find(|(other, ..)| other == key);
        let same_user = |(other, ..): &&(CacheKey, bool, u64)| other.same_but_address(key);
        let answer = match (self.stale_match, exact) {
            (StaleMatch::User, None | Some((_, true, _))) => self.answers.iter().rfind(same_user),
            (StaleMatch::Exact | StaleMatch::User, exact) => exact,
        };
        if let Some((_, is_allow, asked)) = answer
            && (!is_allow || now - asked < STALE_TTL)
        {
            return Some((*is_allow, now - asked));
        }
        let (at, scopes) = self.revoked.get(&key.username)?;
        (now - at < STALE_TTL && !scopes.contains(&key.scope())).then(|| (false, now - at))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_outage_allows_a_user_after_a_revocation(
        by_user in any::<bool>(),
        steps in prop::collection::vec(
            (0..12_u8, (0..2_u8, 0..2_u8, 0..2_u8, 0..2_u8), any::<bool>(), 1..400_u64),
            1..120,
        ),
    ) {
        let stale_match = if by_user { StaleMatch::User } else { StaleMatch::Exact };
        let mut cache = Cache::new(matching(stale_match));
        let mut reference = Reference { stale_match, answers: Vec::new(), revoked: BTreeMap::new() };
        let mut disk = OnDisk::default();
        let mut waiting: Vec<(u64, Query)> = Vec::new();
        let mut now = 0;
        for (what, (name, host, group, vhost), flag, passed) in steps {
            // Every step has a second of its own.
            now += passed;
            let login = login(["alice", "bob"][usize::from(name)], host, group, vhost);
            let verdict = if flag { allow() } else { deny() };
            match what {
                0..2 => {
                    cache.revoke_user(&login.username, "", at(now));
                    reference.revoke(&login.username, now);
                }
                2..4 => waiting.push((now, cache.start_query(login.clone(), at(now)))),
                4..6 => if let Some((asked, query)) = waiting.pop() {
                    reference.store(query.key(), flag, true, asked);
                    cache.store(query, verdict, Ttl::Default);
                },
                6..10 => {
                    put(&mut cache, &login, verdict, [Ttl::Default, Ttl::DoNotCache][usize::from(what % 2)], at(now));
                    reference.store(&login, flag, what % 2 == 0, now);
                }
                _ => {
                    disk.apply(cache.take_changes());
                    cache = Cache::new(matching(stale_match));
                    cache.restore(disk.records(), at(now));
                    reference.restart(now);
                    waiting.clear();
                }
            }
            for name in ["alice", "bob"] {
                for scope in 0..8 {
                    let login = self::login(name, scope % 2, scope / 2 % 2, scope / 4);
                    prop_assert_eq!(in_outage(&mut cache, &login, at(now)), reference.in_outage(&login, now));
                    let revoked = reference.revoked.get(&login.username).map_or(0, |(at, _)| *at);
                    if let Lookup::Fresh(hit) = cache.lookup(&login, at(now)) {
                        prop_assert!(now - hit.age.as_secs() > revoked || revoked == 0, "{:?} is fresh", login);
                    }
                }
            }
        }
    }
}
