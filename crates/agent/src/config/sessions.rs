//! `[sessions]`: what the agent does about connected sessions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::period::Period;

/// What the agent does about connected sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Time between two validations of a session, which also report its usage; a session that is no
    /// longer allowed is ended.
    pub sync_interval: Period,
    /// A session that ocserv could not confirm for this long has ended.
    pub ttl: Period,
    /// A session is idle when no byte moved for this long.
    pub idle_after: Period,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            sync_interval: Period::seconds(30),
            ttl: Period(Duration::from_hours(24)),
            idle_after: Period(Duration::from_mins(10)),
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
        let longest = Duration::from_hours(24 * 365);
        checker.period_from("sessions.ttl", self.ttl, Duration::from_mins(1), longest);
        checker.period("sessions.idle_after", self.idle_after, longest);
    }
}
