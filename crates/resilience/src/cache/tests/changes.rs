//! Tests of the changes for a copy: complete, and collected in bounded steps.

use super::restart::OnDisk;
use super::*;

const LARGE: CacheSettings = CacheSettings {
    max_size: 10_000,
    max_per_user: 1_000,
    ..SETTINGS
};

/// Returns a cache in which `users` users are allowed from one address each.
fn filled(users: u32) -> Cache {
    let mut cache = Cache::new(LARGE);
    for number in 0..users {
        let key = key(&format!("user{number:05}"), 1);
        put(&mut cache, &key, allow(), Ttl::Default, at(0));
    }
    cache
}

#[test]
fn changes_are_empty_only_without_any_entry() {
    let record = Record {
        key: key("alice", 1),
        verdict: allow(),
        asked: SystemTime::UNIX_EPOCH,
    };
    let changes = |decisions, removed_answers, removed_revocations| Changes::Partial {
        put: Records {
            decisions,
            revocations: Vec::new(),
        },
        removed_answers,
        removed_revocations,
    };
    assert!(changes(vec![], vec![], vec![]).is_empty());
    assert!(!changes(vec![record], vec![], vec![]).is_empty());
    assert!(!changes(vec![], vec![key("alice", 1)], vec![]).is_empty());
    assert!(!changes(vec![], vec![], vec![user("alice")]).is_empty());
    assert!(!Changes::Full(Records::default()).is_empty());
}

#[test]
fn above_twice_the_size_of_the_cache_changes_count_as_all() {
    for (changed, is_full) in [(8, false), (9, true)] {
        let (mut by_user, mut by_answer) = (Cache::new(SETTINGS), Cache::new(SETTINGS));
        for number in 0..changed {
            by_user.revoke_user(&user(&format!("user{number}")), "", at(0));
            put(
                &mut by_answer,
                &key("alice", number),
                allow(),
                Ttl::Default,
                at(0),
            );
        }
        for cache in [&mut by_user, &mut by_answer] {
            let changes = take_changes(cache);
            assert_eq!(
                matches!(changes, Changes::Full(_)),
                is_full,
                "{changed} {changes:?}"
            );
            assert!(take_changes(cache).is_empty(), "changes are taken once");
        }
    }
}

#[test]
fn a_step_collects_a_bounded_number_of_entries() {
    let mut cache = filled(1_100);
    let mut collector = ChangeCollector::default();
    assert!(cache.collect(&mut collector));
    assert!(matches!(collector.finish(), Changes::Partial { put, .. } if put.decisions.len() == 512));
    cache.mark_all_changed();
    let mut collector = ChangeCollector::default();
    assert!(cache.collect(&mut collector));
    assert!(matches!(collector.finish(), Changes::Full(records) if records.decisions.len() == 64));
}

#[test]
fn a_change_during_a_copy_of_all_is_in_the_copy() {
    let mut cache = filled(200);
    cache.mark_all_changed();
    let mut collector = ChangeCollector::default();
    assert!(cache.collect(&mut collector));
    // One user that was copied already and one that was not are revoked, and another is new.
    cache.revoke_user(&user("user00000"), "", at(1));
    cache.revoke_user(&user("user00150"), "", at(1));
    put(&mut cache, &key("aaa", 1), deny(), Ttl::Default, at(1));
    while cache.collect(&mut collector) {}
    let mut copy = OnDisk::default();
    copy.apply(collector.finish());
    assert_eq!(copy, OnDisk::of(&cache));
    assert_eq!(copy.records().decisions.len(), 199);
    assert!(take_changes(&mut cache).is_empty());
    // A write that failed meanwhile starts the copy again.
    let mut collector = ChangeCollector::default();
    cache.mark_all_changed();
    assert!(cache.collect(&mut collector));
    cache.revoke_user(&user("user00001"), "", at(2));
    cache.mark_all_changed();
    while cache.collect(&mut collector) {}
    let mut copy = OnDisk::default();
    copy.apply(collector.finish());
    assert_eq!(copy, OnDisk::of(&cache));
}

#[test]
fn an_allow_that_changes_nothing_about_a_denied_user_is_no_change_of_the_user() {
    let mut cache = Cache::new(LARGE);
    let in_scope = |group, host| CacheKey {
        group: ocserv_agent_model::GroupName::parse(group).ok(),
        ..key("alice", host)
    };
    let users_changed = |cache: &mut Cache| match take_changes(cache) {
        Changes::Partial { put, .. } => put.revocations.len(),
        Changes::Full(_) => panic!(),
    };
    let steps = [
        (in_scope("staff", 1), deny(), 1),
        (in_scope("guests", 1), allow(), 1),
        (in_scope("guests", 2), allow(), 0),
        (in_scope("admins", 3), deny(), 1),
        (in_scope("staff", 3), allow(), 1),
        (in_scope("staff", 3), allow(), 0),
    ];
    for (seconds, (key, verdict, changed)) in (0..).zip(steps) {
        put(&mut cache, &key, verdict.clone(), Ttl::Default, at(seconds));
        assert_eq!(users_changed(&mut cache), changed, "{key:?} {verdict:?}");
    }
}
