//! What outlives the process.

use std::collections::BTreeMap;

use super::*;

#[test]
fn what_comes_back_after_a_restart_is_stale_with_its_true_age() {
    let (young, old, refused) = (key("alice", 1), key("bob", 1), key("eve", 1));
    let mut before = cache(
        SETTINGS,
        &[
            (&old, allow(), 0),
            (&refused, deny(), 0),
            (&young, allow(), 2_000),
        ],
    );
    let Changes::Some {
        put: records,
        removed,
        ..
    } = before.take_changes()
    else {
        panic!()
    };
    assert!(removed.is_empty() && before.take_changes().is_empty());
    // The monotonic clock began anew.
    let now = |seconds: u64| Now {
        mono: at(seconds - 1_500).mono,
        wall: at(seconds).wall,
    };
    let mut after = Cache::new(SETTINGS);
    assert_eq!(
        after.restore(records.clone(), now(2_010)),
        2,
        "the allow that is too old to serve stays out"
    );
    assert_eq!(
        after.lookup(&young, now(2_010)),
        Lookup::Stale {
            age: Duration::from_secs(10)
        }
    );
    assert_eq!(in_outage(&mut after, &young, now(2_020)), Some((true, 20)));
    assert_eq!(in_outage(&mut after, &young, now(3_800)), None);
    assert_eq!(in_outage(&mut after, &refused, now(2_010)), Some((false, 2_010)));
    assert!(
        matches!(after.take_changes(), Changes::All(kept) if kept.decisions.len() == 2),
        "the copy on disk learns of it"
    );
    // The wall clock was set back a little over the restart: stale, and counted from the restart on.
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
    // By more than an allow may live: then each restart would give it another such time. A deny stays a deny.
    let mut after = Cache::new(SETTINGS);
    assert_eq!(after.restore(records, set_back(now(2_010), 86_400)), 1);
    assert_eq!(in_outage(&mut after, &young, set_back(now(2_010), 86_400)), None);
    assert_eq!(
        in_outage(&mut after, &refused, set_back(now(2_010), 86_400)),
        Some((false, 0))
    );
}

/// A copy of a cache, as a disk has it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct OnDisk {
    decisions: BTreeMap<CacheKey, Record>,
    revocations: BTreeMap<Username, Revocation>,
}

impl OnDisk {
    pub(super) fn follow(&mut self, changes: Changes) {
        let put = match changes {
            Changes::All(records) => {
                *self = Self::default();
                records
            }
            Changes::Some { put, removed, lifted } => {
                removed.iter().for_each(|key| drop(self.decisions.remove(key)));
                lifted.iter().for_each(|user| drop(self.revocations.remove(user)));
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

    fn of(cache: &Cache) -> Self {
        let mut whole = Self::default();
        let mut everything = Dirty::All;
        whole.follow(everything.take(&cache.answers, &cache.revoked));
        whole
    }
}

#[test]
fn a_copy_that_follows_the_changes_holds_what_the_cache_holds() {
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
            23 => drop(cache.invalidate_all()),
            _ => {}
        }
        // Now and then nobody listens for a while, and more changes than are remembered.
        if round % 5 == 0 || round > 30 || round == 13 {
            copy.follow(cache.take_changes());
            assert_eq!(copy, OnDisk::of(&cache), "round {round}");
        }
    }
}
