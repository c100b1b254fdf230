//! `[sessions]`: the sessions that are up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::period::Period;

/// How sessions that are up are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// How often each session is asked about, to end those that are no longer in order.
    pub sync_interval: Period,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            sync_interval: Period::seconds(30),
        }
    }
}

impl Sessions {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.period_from(
            "sessions.sync_interval",
            self.sync_interval,
            Duration::from_millis(100),
            Duration::from_hours(24),
        );
    }
}
