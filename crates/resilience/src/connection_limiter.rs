//! Bounds connections that have sent no request; one more evicts the oldest of the busiest origin.
//!
//! A legitimate peer sends its request, or completes its handshake, within a few round trips. While
//! the limiter is full, the origin with the most connections is the most likely attacker, and its
//! oldest connection the most suspicious. No number of silent connections blocks other peers, and
//! an origin cannot evict another's connections while it has more itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Bounds connections per origin `K`; `()` where all peers are one origin. Clones share the bound.
#[derive(Debug, Clone)]
pub struct ConnectionLimiter<K> {
    max: usize,
    connections: Arc<Mutex<Connections<K>>>,
}

#[derive(Debug)]
struct Connections<K> {
    next: u64,
    len: usize,
    /// By origin, then by age. An origin without connections is not in it.
    by_origin: HashMap<K, BTreeMap<u64, CancellationToken>>,
}

/// One connection's slot; dropping it frees the slot.
#[derive(Debug)]
pub struct ConnectionSlot<K: Eq + Hash> {
    connections: Arc<Mutex<Connections<K>>>,
    origin: K,
    number: u64,
    evicted: CancellationToken,
}

impl<K: Eq + Hash + Copy> ConnectionLimiter<K> {
    /// Creates a limiter for `max` connections at a time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let connections = Connections {
            next: 0,
            len: 0,
            by_origin: HashMap::new(),
        };
        Self {
            max,
            connections: Arc::new(Mutex::new(connections)),
        }
    }

    /// Registers a connection. Returns its slot, and whether another connection was evicted for it.
    pub fn register(&self, origin: K) -> (ConnectionSlot<K>, bool) {
        let evicted = CancellationToken::new();
        let mut connections = lock(&self.connections);
        let number = connections.insert(origin, evicted.clone());
        let displaced = if connections.len > self.max {
            connections.remove_oldest_of_largest()
        } else {
            None
        };
        drop(connections);
        if let Some(token) = &displaced {
            token.cancel();
        }
        let slot = ConnectionSlot {
            connections: Arc::clone(&self.connections),
            origin,
            number,
            evicted,
        };
        (slot, displaced.is_some())
    }
}

impl<K: Eq + Hash> ConnectionSlot<K> {
    /// Waits until the connection is evicted.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl<K: Eq + Hash> Drop for ConnectionSlot<K> {
    fn drop(&mut self) {
        lock(&self.connections).remove(&self.origin, self.number);
    }
}

impl<K: Eq + Hash> Connections<K> {
    fn insert(&mut self, origin: K, token: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.len += 1;
        self.by_origin.entry(origin).or_default().insert(number, token);
        number
    }

    fn remove(&mut self, origin: &K, number: u64) -> Option<CancellationToken> {
        let connections = self.by_origin.get_mut(origin)?;
        let token = connections.remove(&number)?;
        if connections.is_empty() {
            self.by_origin.remove(origin);
        }
        self.len -= 1;
        Some(token)
    }

    /// Removes the oldest connection of the largest origin; of equal origins, of the one with the
    /// oldest connection.
    fn remove_oldest_of_largest(&mut self) -> Option<CancellationToken>
    where
        K: Copy,
    {
        let oldest = |connections: &BTreeMap<u64, CancellationToken>| connections.keys().next().copied();
        let (origin, connections) = self
            .by_origin
            .iter()
            .max_by_key(|(_, connections)| (connections.len(), Reverse(oldest(connections))))?;
        let (origin, number) = (*origin, oldest(connections)?);
        self.remove(&origin, number)
    }
}

fn lock<K>(connections: &Mutex<Connections<K>>) -> MutexGuard<'_, Connections<K>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn register<K: Eq + Hash + Copy>(limiter: &ConnectionLimiter<K>, origin: K) -> ConnectionSlot<K> {
        limiter.register(origin).0
    }

    fn evicted<K: Eq + Hash>(slots: &[ConnectionSlot<K>]) -> Vec<bool> {
        let mut context = Context::from_waker(Waker::noop());
        slots
            .iter()
            .map(|slot| pin!(slot.evicted()).poll(&mut context).is_ready())
            .collect()
    }

    #[test]
    fn the_oldest_connection_of_the_largest_origin_is_evicted() {
        let limiter = ConnectionLimiter::new(4);
        let slots = ["b", "a", "a", "a"].map(|origin| register(&limiter, origin));
        let _other = register(&limiter, "c");
        assert_eq!(evicted(&slots), [false, true, false, false]);
        let _again = register(&limiter, "a");
        assert_eq!(
            evicted(&slots),
            [false, true, true, false],
            "an origin evicts its own connections only"
        );
    }

    #[test]
    fn of_equal_origins_the_oldest_connection_is_evicted_and_never_the_newest() {
        let limiter = ConnectionLimiter::new(2);
        let slots = ["a", "b", "c"].map(|origin| register(&limiter, origin));
        assert_eq!(evicted(&slots), [true, false, false]);
    }

    #[test]
    fn a_dropped_slot_is_free() {
        let limiter = ConnectionLimiter::new(1);
        drop(register(&limiter, "a"));
        let (second, displaced) = limiter.register("a");
        assert!(!displaced);
        assert_eq!(evicted(&[second]), [false]);
        let connections = lock(&limiter.connections);
        assert_eq!((connections.len, connections.by_origin.len()), (0, 0));
    }

    #[test]
    fn dropping_an_evicted_slot_frees_no_other() {
        let limiter = ConnectionLimiter::new(1);
        let first = register(&limiter, "a");
        let second = register(&limiter, "a");
        drop(first);
        assert_eq!(evicted(&[second, register(&limiter, "a")]), [true, false]);
    }

    #[test]
    fn with_one_origin_the_oldest_connection_is_evicted_and_an_identified_one_is_not() {
        let limiter = ConnectionLimiter::new(2);
        let identified = register(&limiter, ());
        let oldest = register(&limiter, ());
        let token = identified.evicted.clone();
        drop(identified);
        let (newer, displaced) = limiter.register(());
        assert!(!displaced);
        let (newest, displaced) = limiter.register(());
        assert!(displaced);
        assert_eq!(evicted(&[oldest, newer, newest]), [true, false, false]);
        assert!(!token.is_cancelled());
    }
}
