//! Queries in flight.

use std::sync::Arc;

use super::invalidations::Epoch;
use super::key::CacheKey;
use crate::time::Now;

/// A query to the source in flight.
#[derive(Debug)]
pub struct Query {
    pub(super) key: Arc<CacheKey>,
    pub(super) asked: Now,
    pub(super) epoch: Epoch,
}

impl Query {
    /// Returns the key that the query is about.
    #[must_use]
    pub fn key(&self) -> &CacheKey {
        &self.key
    }
}
