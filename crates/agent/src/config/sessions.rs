//! `[sessions]`: the validation of connected sessions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::period::Period;

/// The validation of connected sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Time between two validations of a session; a session that is no longer allowed is ended.
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
