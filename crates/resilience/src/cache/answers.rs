//! The answers with the same verdict, bounded in number and in bytes.

use std::sync::Arc;

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::answer::CachedAnswer;
use super::key::CacheKey;

/// Answers by key. Scan-resistant: an answer that was used since it was stored outlives any number
/// of answers that were not.
#[derive(Debug)]
pub(super) struct Answers(Cache<Arc<CacheKey>, CachedAnswer, Weight, DefaultHashBuilder, Evictions>);

/// Answers that made room for others.
pub(super) type Evicted = Vec<(Arc<CacheKey>, CachedAnswer)>;

#[derive(Debug)]
struct Weight;

impl Weighter<Arc<CacheKey>, CachedAnswer> for Weight {
    fn weight(&self, _: &Arc<CacheKey>, answer: &CachedAnswer) -> u64 {
        answer.weight
    }
}

/// Passes evicted answers to the caller, who keeps an index of them.
#[derive(Debug)]
struct Evictions;

impl Lifecycle<Arc<CacheKey>, CachedAnswer> for Evictions {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: Arc<CacheKey>, answer: CachedAnswer) {
        evicted.push((key, answer));
    }
}

impl Answers {
    pub(super) fn new(max_size: usize) -> Self {
        let weight = u64::try_from(max_size).unwrap_or(u64::MAX);
        Self(Cache::with(
            max_size,
            weight,
            Weight,
            DefaultHashBuilder::default(),
            Evictions,
        ))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the answer to `key`, and marks it as used.
    pub(super) fn get(&self, key: &CacheKey) -> Option<&CachedAnswer> {
        self.0.get(key)
    }

    pub(super) fn peek(&self, key: &CacheKey) -> Option<&CachedAnswer> {
        self.0.peek(key)
    }

    /// Inserts or replaces an answer. Returns those that were evicted: the new one too, if it is
    /// larger than the cache.
    pub(super) fn insert(&mut self, key: &Arc<CacheKey>, answer: CachedAnswer) -> Evicted {
        let mut evicted = Evicted::new();
        self.0
            .insert_with_lifecycle(Arc::clone(key), answer, &mut evicted);
        if self.0.contains_key(&**key) {
            // The replaced answer.
            evicted.retain(|(other, _)| other != key);
        }
        evicted
    }

    pub(super) fn remove(&mut self, key: &CacheKey) -> Option<CachedAnswer> {
        self.0.remove(key).map(|(_, answer)| answer)
    }

    /// Ends the freshness of the answer to `key`.
    pub(super) fn expire(&mut self, key: &CacheKey) {
        if let Some(mut answer) = self.0.peek_mut(key) {
            answer.ttl = None;
        }
    }

    /// Removes all answers and returns them, the latest first.
    pub(super) fn take_all(&mut self) -> Vec<(Arc<CacheKey>, CachedAnswer)> {
        let mut all: Vec<_> = self.0.drain().collect();
        all.sort_by_key(|(_, answer)| std::cmp::Reverse(answer.asked.mono));
        all
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &CacheKey> {
        self.0.iter().map(|(key, _)| &**key)
    }
}
