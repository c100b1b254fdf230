//! A map with a bound, which forgets what was put in first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(super) struct Recent<K, V> {
    entries: HashMap<K, V>,
    /// The keys as they were put in. A key that was removed stays here until its turn comes.
    order: VecDeque<K>,
    bound: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bound,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.bound {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_is_forgotten_first_and_the_bound_holds() {
        let mut recent = Recent::new(2);
        for key in [1, 2, 2, 3] {
            recent.insert(key, ());
        }
        assert_eq!(
            [1, 2, 3].map(|key| recent.get(&key).is_some()),
            [false, true, true]
        );
        for key in 0..1000 {
            recent.insert(key, ());
            recent.remove(&key);
        }
        assert!(recent.order.len() <= 2 && recent.entries.len() <= 2);
    }
}
