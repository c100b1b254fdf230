//! Tests of restored caches.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_restored_answer_is_stale_with_its_true_age() {
    let (young, old, denied) = (key("alice", 1), key("bob", 1), key("eve", 1));
    let mut before = cache(
        SETTINGS,
        &[(&old, allow(), 0), (&denied, deny(), 0), (&young, allow(), 2_000)],
    );
    let Changes::Partial {
        put: records,
        removed_answers,
        ..
    } = take_changes(&mut before)
    else {
        panic!()
    };
    assert!(removed_answers.is_empty() && take_changes(&mut before).is_empty());
    // The monotonic clock restarted.
    let now = |seconds: u64| Now {
        mono: at(seconds - 1_500).mono,
        wall: at(seconds).wall,
    };
    let mut after = Cache::new(SETTINGS);
    assert_eq!(
        after.restore(records.clone(), now(2_010)),
        2,
        "an allow that is too old to serve is not restored"
    );
    assert_eq!(
        after.lookup(&young, now(2_010)),
        Lookup::Stale {
            age: Duration::from_secs(10)
        }
    );
    assert_eq!(in_outage(&mut after, &young, now(2_020)), Some((true, 20)));
    assert_eq!(in_outage(&mut after, &young, now(3_800)), None);
    assert_eq!(in_outage(&mut after, &denied, now(2_010)), Some((false, 2_010)));
    assert!(
        matches!(take_changes(&mut after), Changes::Full(kept) if kept.decisions.len() == 2),
        "the copy on disk is rewritten"
    );
    // The wall clock was set back a little over the restart: the age counts from the restart.
    let mut after = Cache::new(SETTINGS);
    assert_eq!(after.restore(records.clone(), set_back(now(2_010), 60)), 2);
    assert_eq!(
        in_outage(&mut after, &young, set_back(now(2_010 + 1_799), 60)),
        Some((true, 1_799))
    );
    assert_eq!(
        in_outage(&mut after, &young, set_back(now(2_010 + 1_800), 60)),
        None
    );
    // By more than `stale_ttl`: then each restart would prolong an allow. A deny stays a deny.
    let mut after = Cache::new(SETTINGS);
    assert_eq!(after.restore(records, set_back(now(2_010), 86_400)), 1);
    assert_eq!(in_outage(&mut after, &young, set_back(now(2_010), 86_400)), None);
    assert_eq!(
        in_outage(&mut after, &denied, set_back(now(2_010), 86_400)),
        Some((false, 0))
    );
}

/// A copy of a cache that applies its changes, as on disk.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OnDisk {
    decisions: BTreeMap<CacheKey, Record>,
    revocations: BTreeMap<Username, Revocation>,
}

impl OnDisk {
    pub(super) fn apply(&mut self, changes: Changes) {
        let put = match changes {
            Changes::Full(records) => {
                *self = Self::default();
                records
            }
            Changes::Partial {
                put,
                removed_answers,
                removed_revocations,
            } => {
                removed_answers
                    .iter()
                    .for_each(|key| drop(self.decisions.remove(key)));
                removed_revocations
                    .iter()
                    .for_each(|user| drop(self.revocations.remove(user)));
                put
            }
        };
        let decisions = put.decisions.into_iter();
        self.decisions
            .extend(decisions.map(|record| (record.key.clone(), record)));
        let revocations = put.revocations.into_iter();
        self.revocations
            .extend(revocations.map(|record| (record.username.clone(), record)));
    }

    pub(super) fn records(&self) -> Records {
        Records {
            decisions: self.decisions.values().cloned().collect(),
            revocations: self.revocations.values().cloned().collect(),
        }
    }

    pub(super) fn of(cache: &Cache) -> Self {
        let mut whole = Self::default();
        let mut collector = ChangeCollector::default();
        collector.copy_all();
        while collector.copying {
            cache.copy(&mut collector);
        }
        whole.apply(collector.finish());
        whole
    }
}

#[test]
fn a_copy_that_applies_the_changes_equals_the_cache() {
    let mut cache = Cache::new(SETTINGS);
    let mut copy = OnDisk::default();
    for round in 0..40_u8 {
        let now = at(u64::from(round));
        put(&mut cache, &key("alice", round % 7), allow(), Ttl::Default, now);
        cache.revoke_user(&user(&format!("user{}", round % 11)), "", now);
        match round {
            11 => drop(cache.revoke_user(&user("alice"), "", now)),
            13 => cache.configure(CacheSettings {
                max_size: 2,
                ..SETTINGS
            }),
            23 => cache.mark_all_changed(),
            _ => {}
        }
        // At times changes are not taken for a while, and exceed the bound of the change log.
        if round % 5 == 0 || round > 30 || round == 13 {
            copy.apply(take_changes(&mut cache));
            assert_eq!(copy, OnDisk::of(&cache), "round {round}");
        }
    }
}

#[test]
fn what_exceeds_the_bounds_is_left_out_the_oldest_first() {
    let record = |verdict: Verdict, seconds: u64| Record {
        key: key(&format!("user{seconds}"), 1),
        verdict,
        asked: at(seconds).wall,
    };
    let denied = |seconds: u64| Revocation {
        username: user(&format!("denied{seconds}")),
        reason: String::new(),
        at: at(seconds).wall,
        revoked_at: Some(at(seconds).wall),
        denied_in: Vec::new(),
        allowed_since: Vec::new(),
    };
    let records = Records {
        decisions: (0..10)
            .map(|seconds| record(allow(), seconds))
            .chain((10..20).map(|seconds| record(deny(), seconds)))
            .collect(),
        revocations: (0..10).map(denied).collect(),
    };
    let mut cache = Cache::new(SETTINGS);
    assert_eq!(cache.restore(records.clone(), at(20)), 8);
    let known = |cache: &mut Cache, name: &str| in_outage(cache, &key(name, 1), at(20)).is_some();
    for seconds in 0..20_u64 {
        let is_kept = (6..10).contains(&seconds) || (16..20).contains(&seconds);
        assert_eq!(known(&mut cache, &format!("user{seconds}")), is_kept, "{seconds}");
    }
    for seconds in 0..10_u64 {
        assert_eq!(
            known(&mut cache, &format!("denied{seconds}")),
            seconds >= 6,
            "{seconds}"
        );
    }
    assert_eq!((cache.stats().forgotten_denies, cache.stats().evictions), (6, 0));
    // What the process knows already is newer.
    let mut cache = Cache::new(CacheSettings {
        max_size: 100,
        ..SETTINGS
    });
    put(&mut cache, &key("user19", 1), allow(), Ttl::Default, at(20));
    cache.revoke_user(&user("user1"), "", at(20));
    cache.restore(records, at(20));
    assert_eq!(in_outage(&mut cache, &key("user19", 1), at(21)), Some((true, 1)));
    assert_eq!(in_outage(&mut cache, &key("user1", 1), at(21)), Some((false, 1)));
    assert_eq!(in_outage(&mut cache, &key("user2", 1), at(21)), Some((true, 19)));
}

#[test]
fn a_restart_that_leaves_nothing_out_writes_nothing() {
    let mut before = cache(
        SETTINGS,
        &[(&key("alice", 1), allow(), 0), (&key("eve", 1), deny(), 0)],
    );
    before.revoke_user(&user("carol"), "", at(1));
    let mut disk = OnDisk::default();
    disk.apply(take_changes(&mut before));
    for (now, is_empty) in [(10, true), (1_800, false)] {
        let mut after = Cache::new(SETTINGS);
        after.restore(disk.records(), at(now));
        let changes = take_changes(&mut after);
        assert_eq!(changes.is_empty(), is_empty, "{changes:?}");
    }
}
