//! Checks the bound of the cache against a list.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bound_is_exact_and_the_least_recently_used_is_evicted_first(
        max_size in 0..6_usize,
        steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..3_u8), 1..200),
    ) {
        let mut cache = Cache::new(CacheSettings { max_size, ..SETTINGS });
        // The reference: a list, the most recently used last.
        let mut list: Vec<CacheKey> = Vec::new();
        for (step, name, host) in steps {
            let key = key(["alice", "bob", "carol"][usize::from(name)], host);
            let known = list.iter().position(|other| *other == key);
            match step {
                0 => {
                    put(&mut cache, &key, allow(), Ttl::Default, at(0));
                    known.map(|at| list.remove(at));
                    list.push(key);
                    if list.len() > max_size {
                        list.remove(0);
                    }
                }
                1 => {
                    prop_assert_eq!(fresh(&mut cache, &key, at(1)), known.is_some());
                    if let Some(at) = known {
                        let key = list.remove(at);
                        list.push(key);
                    }
                }
                2 => {
                    prop_assert_eq!(cache.invalidate_key(&key), usize::from(known.is_some()));
                    list.retain(|other| *other != key);
                }
                _ => {
                    let before = list.len();
                    list.retain(|other| other.username != key.username);
                    prop_assert_eq!(cache.revoke_user(&key.username, "", at(0)), before - list.len());
                }
            }
            let cached: Vec<CacheKey> = cache.answers.iter().map(|(key, _)| CacheKey::clone(key)).collect();
            prop_assert_eq!(cached, list.iter().rev().cloned().collect::<Vec<_>>());
            prop_assert!(cache.stats().size <= max_size);
            prop_assert_eq!(cache.users.len(), list.iter().map(|k| &k.username).collect::<std::collections::BTreeSet<_>>().len());
        }
    }
}
