//! Tests of denied users: no outage allows them, whatever the client chooses.

use ocserv_agent_model::{GroupName, VhostName};

use super::restart::OnDisk;
use super::*;

/// Returns a login with the given address, group and vhost.
fn login(host: u8, group: u8, vhost: u8) -> CacheKey {
    CacheKey {
        group: [
            None,
            GroupName::parse("staff").ok(),
            GroupName::parse("admins").ok(),
        ][usize::from(group)]
        .clone(),
        vhost: [None, VhostName::parse("b").ok()][usize::from(vhost)].clone(),
        ..key("alice", host)
    }
}

fn settings(stale_match: StaleMatch) -> CacheSettings {
    CacheSettings {
        stale_match,
        max_size: 100,
        ..SETTINGS
    }
}

const BOTH: [StaleMatch; 2] = [StaleMatch::Exact, StaleMatch::User];

#[test]
fn an_allow_ends_a_deny_in_its_own_group_and_vhost() {
    for stale_match in BOTH {
        for ttl in [Ttl::Default, Ttl::Zero] {
            let known = [(&login(1, 0, 0), deny(), 0), (&login(1, 1, 0), deny(), 1)];
            let mut cache = cache(settings(stale_match), &known);
            put(&mut cache, &login(2, 2, 1), allow(), ttl, at(10));
            let answers = |cache: &mut Cache| {
                [(9, 0, 0), (9, 1, 0), (9, 2, 0), (9, 2, 1)].map(|(host, group, vhost)| {
                    in_outage(cache, &login(host, group, vhost), at(20)).map(|(is_allow, _)| is_allow)
                })
            };
            let allowed = (ttl == Ttl::Default && stale_match == StaleMatch::User).then_some(true);
            let no = Some(false);
            assert_eq!(
                answers(&mut cache),
                [no, no, no, allowed],
                "{stale_match:?} {ttl:?}"
            );
            put(&mut cache, &login(1, 0, 0), allow(), Ttl::Zero, at(11));
            assert_eq!(answers(&mut cache), [None, no, no, allowed]);
            assert_eq!(cache.stats().denied_users, 1);
            put(&mut cache, &login(1, 1, 0), allow(), Ttl::Zero, at(12));
            assert_eq!(
                answers(&mut cache),
                [None, None, None, allowed],
                "nothing denied is left"
            );
            assert_eq!(cache.stats().denied_users, 0);
        }
    }
}

#[test]
fn an_allow_of_exactly_this_login_serves_beside_a_deny_of_another() {
    for stale_match in BOTH {
        let known = [(&login(1, 0, 0), allow(), 0), (&login(1, 1, 0), deny(), 10)];
        let mut cache = cache(settings(stale_match), &known);
        assert_eq!(in_outage(&mut cache, &login(1, 0, 0), at(20)), Some((true, 20)));
        assert_eq!(
            in_outage(&mut cache, &login(2, 0, 0), at(20)),
            Some((false, 10)),
            "{stale_match:?}"
        );
        assert_eq!(
            in_outage(&mut cache, &login(1, 0, 0), at(1_800)),
            Some((false, 1_790))
        );
    }
}

#[test]
fn a_deny_ends_what_an_earlier_allow_ended() {
    let mut cache = cache(
        settings(StaleMatch::Exact),
        &[
            (&login(1, 0, 0), deny(), 0),
            (&login(2, 1, 0), allow(), 1),
            (&login(3, 0, 0), deny(), 2),
        ],
    );
    assert_eq!(in_outage(&mut cache, &login(9, 1, 0), at(10)), Some((false, 8)));
}

#[test]
fn an_allow_that_was_asked_before_the_deny_does_not_end_it() {
    let mut cache = Cache::new(settings(StaleMatch::Exact));
    let early = cache.start_query(login(2, 0, 0), at(0));
    put(&mut cache, &login(1, 0, 0), deny(), Ttl::Default, at(1));
    assert_eq!(cache.store(early, allow(), Ttl::Default), StoreResult::Stored);
    assert_eq!(in_outage(&mut cache, &login(9, 0, 0), at(2)), Some((false, 1)));
    put(&mut cache, &login(5, 0, 0), allow(), Ttl::Zero, at(1));
    assert_eq!(
        in_outage(&mut cache, &login(9, 0, 0), at(2)),
        None,
        "one that was asked at the same time does"
    );
    let (early, late) = (
        cache.start_query(login(3, 0, 0), at(3)),
        cache.start_query(login(4, 0, 0), at(5)),
    );
    cache.store(late, allow(), Ttl::Zero);
    cache.store(early, Verdict::deny(DenyCode::Policy, "early"), Ttl::Default);
    assert_eq!(
        in_outage(&mut cache, &login(9, 0, 0), at(6)),
        Some((false, 3)),
        "the safer of the two"
    );
    let early = cache.start_query(login(6, 0, 0), at(6));
    put(&mut cache, &login(7, 0, 0), deny(), Ttl::Default, at(7));
    cache.store(early, Verdict::deny(DenyCode::Policy, "early"), Ttl::Default);
    let latest = StaleAnswer {
        verdict: deny(),
        age: Duration::from_secs(3),
    };
    assert_eq!(
        cache.stale_answer(&login(9, 0, 0), at(10)),
        Some(latest),
        "the latest deny"
    );
}

#[test]
fn a_deny_outlives_a_revocation_of_the_user_and_a_revocation_alone_expires() {
    for (first, kept) in [(Some(deny()), Some((false, 2_000))), (None, None)] {
        let mut cache = Cache::new(settings(StaleMatch::Exact));
        if let Some(deny) = first {
            put(&mut cache, &login(1, 0, 0), deny, Ttl::Default, at(0));
        }
        cache.revoke_user(&user("alice"), "left", at(0));
        let answer = cache.stale_answer(&login(2, 1, 1), at(1_799)).unwrap();
        assert_eq!(answer.verdict, Verdict::deny(DenyCode::Policy, "left"));
        assert_eq!(in_outage(&mut cache, &login(2, 1, 1), at(2_000)), kept);
    }
}

#[test]
fn a_deny_that_is_evicted_denies_the_user_from_every_address() {
    let mut cache = Cache::new(settings(StaleMatch::Exact));
    put(&mut cache, &login(1, 0, 0), deny(), Ttl::Default, at(0));
    for host in 11..14 {
        put(&mut cache, &login(host, 0, 0), deny(), Ttl::Default, at(1));
    }
    put(&mut cache, &login(2, 0, 0), allow(), Ttl::Default, at(2));
    assert_eq!(in_outage(&mut cache, &login(1, 0, 0), at(3)), Some((false, 3)));
    assert_eq!(in_outage(&mut cache, &login(9, 0, 0), at(3)), None);
    put(&mut cache, &login(14, 1, 0), deny(), Ttl::Default, at(4));
    put(&mut cache, &login(14, 1, 0), allow(), Ttl::Default, at(5));
    assert!(
        !matches!(cache.lookup(&login(1, 0, 0), at(5)), Lookup::Fresh(_)),
        "it is evicted"
    );
    for host in [1, 9] {
        let answer = in_outage(&mut cache, &login(host, 0, 0), at(6));
        assert_eq!(answer, Some((false, 2)), "address {host}");
    }
    assert_eq!(in_outage(&mut cache, &login(2, 0, 0), at(6)), Some((true, 4)));
}

#[test]
fn when_there_is_no_room_for_a_denied_user_only_a_login_of_its_own_serves() {
    let by_user = CacheSettings {
        stale_match: StaleMatch::User,
        ..SETTINGS
    };
    let mut cache = Cache::new(by_user);
    for number in 0..SETTINGS.max_size {
        put(
            &mut cache,
            &key(&format!("user{number}"), 1),
            deny(),
            Ttl::Default,
            at(0),
        );
    }
    put(&mut cache, &key("alice", 1), allow(), Ttl::Default, at(0));
    assert_eq!(in_outage(&mut cache, &key("alice", 2), at(1)), Some((true, 1)));
    assert!(!cache.forgot_denies());
    put(&mut cache, &key("user0", 2), deny(), Ttl::Default, at(1));
    assert!(!cache.forgot_denies(), "a user takes one place");
    put(&mut cache, &key("eve", 1), deny(), Ttl::Default, at(1));
    assert!(cache.forgot_denies());
    let stats = cache.stats();
    assert_eq!(
        (stats.forgotten_denies, stats.denied_users),
        (1, SETTINGS.max_size)
    );
    assert_eq!(in_outage(&mut cache, &key("alice", 1), at(1)), Some((true, 1)));
    assert_eq!(in_outage(&mut cache, &key("alice", 2), at(1)), None);
    // A process that finds no room left cannot know whether there was enough.
    cache.mark_all_changed();
    let Changes::Full(records) = take_changes(&mut cache) else {
        panic!()
    };
    let mut restarted = Cache::new(by_user);
    restarted.restore(records.clone(), at(2));
    assert!(restarted.forgot_denies());
    let mut larger = Cache::new(CacheSettings {
        max_size: 5,
        ..by_user
    });
    larger.restore(records, at(2));
    assert!(!larger.forgot_denies());
}

#[test]
fn a_long_reason_is_cut_and_the_scopes_of_a_user_are_bounded() {
    let mut cache = Cache::new(settings(StaleMatch::Exact));
    let in_group = |number| CacheKey {
        group: GroupName::parse(&format!("group{number}")).ok(),
        ..key("alice", 1)
    };
    for number in 0..40 {
        let verdict = Verdict::deny(DenyCode::Policy, "ö".repeat(1_000));
        put(&mut cache, &in_group(number), verdict, Ttl::Default, at(0));
    }
    for number in 0..40 {
        put(&mut cache, &in_group(number + 100), allow(), Ttl::Zero, at(1));
    }
    cache.mark_all_changed();
    let Changes::Full(Records { revocations, .. }) = take_changes(&mut cache) else {
        panic!()
    };
    let [record] = &*revocations else { panic!() };
    assert_eq!((record.denied_in.len(), record.allowed_since.len()), (16, 16));
    assert_eq!(record.reason, "ö".repeat(256));
    assert_eq!(record.revoked_at, None);
}

#[test]
fn a_deny_in_one_scope_too_many_outlives_allows_in_all_the_others() {
    let mut cache = Cache::new(settings(StaleMatch::Exact));
    let in_group = |number, host| CacheKey {
        group: GroupName::parse(&format!("group{number}")).ok(),
        ..key("alice", host)
    };
    for number in 0..17 {
        put(&mut cache, &in_group(number, 1), deny(), Ttl::Default, at(0));
    }
    for number in 0..16 {
        put(&mut cache, &in_group(number, 1), allow(), Ttl::Zero, at(1));
    }
    assert_eq!(in_outage(&mut cache, &in_group(16, 2), at(2)), Some((false, 2)));
    assert_eq!(in_outage(&mut cache, &in_group(15, 2), at(2)), None);
}

#[test]
fn an_allow_ends_a_deny_on_disk_too_however_many_groups_were_allowed_before() {
    let mut cache = Cache::new(settings(StaleMatch::Exact));
    let in_group = |number| CacheKey {
        group: GroupName::parse(&format!("group{number}")).ok(),
        ..key("alice", 1)
    };
    put(&mut cache, &in_group(0), deny(), Ttl::Default, at(0));
    for number in 1..=16 {
        put(&mut cache, &in_group(number), allow(), Ttl::Zero, at(1));
    }
    assert_eq!(OnDisk::of(&cache).records().revocations.len(), 1);
    take_changes(&mut cache);
    put(&mut cache, &in_group(0), allow(), Ttl::Zero, at(2));
    let Changes::Partial {
        removed_revocations, ..
    } = take_changes(&mut cache)
    else {
        panic!()
    };
    assert_eq!(removed_revocations, [user("alice")]);
}

#[test]
fn restored_denies_for_which_there_is_room_forget_none() {
    let before = cache(
        SETTINGS,
        &[(&key("user1", 1), deny(), 0), (&key("user2", 1), deny(), 0)],
    );
    let known = [(&key("user3", 1), deny(), 1), (&key("user4", 1), deny(), 1)];
    let mut after = cache(SETTINGS, &known);
    after.restore(OnDisk::of(&before).records(), at(2));
    assert_eq!(after.stats().denied_users, SETTINGS.max_size);
    assert!(!after.forgot_denies());
    put(&mut after, &key("user5", 1), deny(), Ttl::Default, at(3));
    assert!(after.forgot_denies());
}

#[test]
fn forgotten_denies_are_known_after_each_restart_until_there_is_more_room() {
    let mut cache = Cache::new(SETTINGS);
    for number in 0..=SETTINGS.max_size {
        let login = key(&format!("user{number}"), 1);
        put(&mut cache, &login, deny(), Ttl::Default, at(0));
    }
    put(&mut cache, &key("user0", 1), allow(), Ttl::Zero, at(1));
    for restart in 0..3 {
        assert!(cache.forgot_denies(), "after {restart} restarts");
        while cache.sweep(at(2)) {}
        let records = OnDisk::of(&cache).records();
        cache = Cache::new(SETTINGS);
        cache.restore(records, at(3));
    }
    let mut larger = Cache::new(CacheSettings {
        max_size: SETTINGS.max_size + 1,
        ..SETTINGS
    });
    larger.restore(OnDisk::of(&cache).records(), at(4));
    assert!(!larger.forgot_denies());
}
