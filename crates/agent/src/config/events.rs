//! `[events]`: the queue of events for the portal.

use serde::{Deserialize, Serialize};

use super::checker::Checker;

/// The queue of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Events that may be pending; beyond that the oldest is dropped for each new one, with an
    /// ERROR line and a count.
    pub max_pending: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { max_pending: 10_000 }
    }
}

impl Events {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.count("events.max_pending", self.max_pending, 1..=1_000_000);
    }
}
