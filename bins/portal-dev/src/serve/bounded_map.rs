//! A bounded map that evicts the oldest entry.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(super) struct BoundedMap<K, V> {
    entries: HashMap<K, V>,
    /// The keys in the order of insertion; a removed key stays until it is the oldest.
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            capacity,
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
        while self.order.len() > self.capacity {
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
    fn the_oldest_entry_is_evicted_at_the_capacity() {
        let mut map = BoundedMap::new(2);
        for key in [1, 2, 2, 3] {
            map.insert(key, ());
        }
        assert_eq!([1, 2, 3].map(|key| map.get(&key).is_some()), [false, true, true]);
        for key in 0..1000 {
            map.insert(key, ());
            map.remove(&key);
        }
        assert!(map.order.len() <= 2 && map.entries.len() <= 2);
    }
}
