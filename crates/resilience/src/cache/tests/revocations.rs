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
        max_per_user: 100,
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
    for ttl in [Ttl::Default, Ttl::Zero] {
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
    assert_eq!(in_outage(&mut cache, &key("alice", 2), at(3)), Some((false, 1)));
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
fn a_revocation_outlives_restarts_with_its_true_age() {
    let alice = key("alice", 1);
    let mut before = Cache::new(SETTINGS);
    before.revoke_user(&user("alice"), "account disabled", at(0));
    before.revoke_user(&user("carol"), "", at(0));
    put(&mut before, &key("carol", 1), allow(), Ttl::Zero, at(1));
    let mut disk = OnDisk::default();
    disk.apply(take_changes(&mut before));
    let mut restart = |now: Now| {
        let mut cache = Cache::new(SETTINGS);
        cache.restore(disk.records(), now);
        disk.apply(take_changes(&mut cache));
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
    denied: BTreeMap<Username, Denied>,
    /// When each user was revoked last.
    revoked: BTreeMap<Username, u64>,
}

/// What denies a user.
#[derive(Default)]
struct Denied {
    /// When the user was denied or revoked last.
    at: u64,
    denied_in: BTreeSet<AccessScope>,
    allowed_since: BTreeSet<AccessScope>,
    /// When the user was revoked last.
    revoked_at: Option<u64>,
}

impl Denied {
    fn is_over(&self, now: u64) -> bool {
        self.denied_in.is_empty() && self.revoked_at.is_none_or(|at| now - at >= STALE_TTL)
    }
}

impl Reference {
    fn revoke(&mut self, user: &Username, now: u64) {
        self.answers
            .retain(|(key, is_allow, _)| key.username != *user || !is_allow);
        let denied = self.denied.entry(user.clone()).or_default();
        (denied.at, denied.revoked_at) = (now, Some(now));
        denied.allowed_since.clear();
        self.revoked.insert(user.clone(), now);
    }

    fn store(&mut self, key: &CacheKey, is_allow: bool, keep: bool, asked: u64) {
        let is_invalidated = self.revoked.get(&key.username) > Some(&asked);
        let is_known = |(other, _, at): &(CacheKey, bool, u64)| other == key && *at > asked;
        if is_invalidated || self.answers.iter().any(is_known) {
            return;
        }
        if is_allow {
            if let Some(denied) = self.denied.get_mut(&key.username)
                && asked >= denied.at
            {
                denied.denied_in.remove(&key.scope());
                denied.allowed_since.insert(key.scope());
                if denied.is_over(asked) {
                    self.denied.remove(&key.username);
                }
            }
        } else {
            let denied = self.denied.entry(key.username.clone()).or_default();
            denied.at = denied.at.max(asked);
            denied.denied_in.insert(key.scope());
            denied.allowed_since.clear();
        }
        self.answers.retain(|(other, ..)| other != key);
        if keep || !is_allow {
            self.answers.push((key.clone(), is_allow, asked));
        }
    }

    fn restart(&mut self, now: u64) {
        self.answers
            .retain(|(_, is_allow, asked)| !is_allow || now - asked < STALE_TTL);
        self.answers
            .sort_by_key(|(_, is_allow, asked)| (!is_allow, *asked));
        self.denied.retain(|_, denied| !denied.is_over(now));
    }

    fn in_outage(&self, key: &CacheKey, now: u64) -> Option<(bool, u64)> {
        let serves = |answer: &&(CacheKey, bool, u64)| !answer.1 || now - answer.2 < STALE_TTL;
        let exact = self
            .answers
            .iter()
            .find(|(other, ..)| other == key)
            .filter(serves);
        let same_user = |(other, ..): &&(CacheKey, bool, u64)| other.same_but_address(key);
        let answer = match (self.stale_match, exact) {
            (StaleMatch::User, None | Some((_, true, _))) => {
                self.answers.iter().rfind(same_user).filter(serves)
            }
            (StaleMatch::Exact | StaleMatch::User, exact) => exact,
        };
        let denied = self
            .denied
            .get(&key.username)
            .filter(|denied| !denied.is_over(now) && !denied.allowed_since.contains(&key.scope()));
        match (answer, denied) {
            (Some((_, true, _)) | None, Some(denied)) if exact.is_none() => Some((false, now - denied.at)),
            (Some((_, is_allow, asked)), _) => Some((*is_allow, now - asked)),
            (None, denied) => denied.map(|denied| (false, now - denied.at)),
        }
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
        let mut reference = Reference { stale_match, answers: Vec::new(), denied: BTreeMap::new(), revoked: BTreeMap::new() };
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
                    put(&mut cache, &login, verdict, [Ttl::Default, Ttl::Zero][usize::from(what % 2)], at(now));
                    reference.store(&login, flag, what % 2 == 0, now);
                }
                _ => {
                    disk.apply(take_changes(&mut cache));
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
                    let revoked = reference.revoked.get(&login.username).copied().unwrap_or(0);
                    if let Lookup::Fresh(hit) = cache.lookup(&login, at(now)) {
                        prop_assert!(now - hit.age.as_secs() > revoked || revoked == 0, "{:?} is fresh", login);
                    }
                }
            }
        }
    }
}
