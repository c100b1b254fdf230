//! `[health]`: what the agent reports of itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::period::Period;

/// What the agent reports of itself to the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Time between two heartbeats on the control stream.
    pub heartbeat_interval: Period,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            heartbeat_interval: Period::seconds(15),
        }
    }
}

impl Health {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.period_from(
            "health.heartbeat_interval",
            self.heartbeat_interval,
            Duration::from_millis(100),
            Duration::from_hours(1),
        );
    }
}
