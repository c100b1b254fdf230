//! A map with an exact least-recently-used order. Every operation is O(1).

use std::collections::HashMap;
use std::hash::Hash;

/// The index of an entry; stable until the entry is removed.
pub(crate) type Slot = usize;

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    before: Option<Slot>,
    after: Option<Slot>,
}

/// The two ends of one linked list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    pub(crate) first: Option<Slot>,
    pub(crate) last: Option<Slot>,
}

/// Doubly linked lists over slots. A slot is in at most one list of a `Links`.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    pub(crate) fn push_first(&mut self, ends: &mut Ends, slot: Slot) {
        if self.0.len() <= slot {
            self.0.resize(slot + 1, Link::default());
        }
        self.0[slot] = Link {
            before: None,
            after: ends.first,
        };
        match ends.first {
            Some(first) => self.0[first].before = Some(slot),
            None => ends.last = Some(slot),
        }
        ends.first = Some(slot);
    }

    pub(crate) fn unlink(&mut self, ends: &mut Ends, slot: Slot) {
        let Link { before, after } = std::mem::take(&mut self.0[slot]);
        match before {
            Some(before) => self.0[before].after = after,
            None => ends.first = after,
        }
        match after {
            Some(after) => self.0[after].before = before,
            None => ends.last = before,
        }
    }

    /// Iterates over a list from its first slot.
    pub(crate) fn walk(&self, ends: Ends) -> impl Iterator<Item = Slot> + '_ {
        std::iter::successors(ends.first, |&slot| self.0[slot].after)
    }
}

/// The map. Unbounded: the caller evicts before it inserts.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    slots: Vec<Option<(K, V)>>,
    free: Vec<Slot>,
    index: HashMap<K, Slot>,
    links: Links,
    recency: Ends,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            links: Links::default(),
            recency: Ends::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn slot<Q>(&self, key: &Q) -> Option<Slot>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.index.get(key).copied()
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&(K, V)> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, slot: Slot) -> Option<&mut V> {
        self.slots.get_mut(slot)?.as_mut().map(|(_, value)| value)
    }

    /// Marks the entry as the most recently used.
    pub(crate) fn touch(&mut self, slot: Slot) {
        if self.recency.first != Some(slot) {
            self.links.unlink(&mut self.recency, slot);
            self.links.push_first(&mut self.recency, slot);
        }
    }

    /// Inserts an entry whose key is not in the map.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.index.insert(key.clone(), slot);
        self.slots[slot] = Some((key, value));
        self.links.push_first(&mut self.recency, slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<(K, V)> {
        let entry = self.slots.get_mut(slot)?.take()?;
        self.index.remove(&entry.0);
        self.links.unlink(&mut self.recency, slot);
        self.free.push(slot);
        Some(entry)
    }

    /// Returns the least recently used entry.
    pub(crate) fn least_recent(&self) -> Option<Slot> {
        self.recency.last
    }

    /// Iterates over the entries, the most recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.links.walk(self.recency).filter_map(|slot| self.at(slot))
    }
}
