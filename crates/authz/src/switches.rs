//! Switches that hold for a time, in place of settings.

use std::time::{Duration, SystemTime};

use resilience::{FailMode, Now};

/// The switches that hold now, each with the time at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActiveSwitches {
    /// The fail mode in place of the configured one.
    pub fail_mode: Option<(FailMode, SystemTime)>,
    /// Whether every login is asked about, or denied: nothing cached or stale decides.
    pub force_online: Option<SystemTime>,
}

/// A moment in the future.
#[derive(Debug, Clone, Copy)]
struct Deadline(Now);

impl Deadline {
    fn after(duration: Duration, now: Now) -> Self {
        Self(Now {
            mono: now.mono + duration,
            wall: now.wall + duration,
        })
    }

    /// Whether it is over by either clock: the monotonic one stands still while the machine sleeps,
    /// and the other one may be set back.
    fn is_over(self, now: Now) -> bool {
        now.mono >= self.0.mono || now.wall >= self.0.wall
    }
}

/// The switches, also those that are over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switches {
    fail_mode: Option<(FailMode, Deadline)>,
    force_online: Option<Deadline>,
}

impl Switches {
    /// Sets the fail mode for `duration`, or ends an earlier switch. Returns the end.
    pub(crate) fn set_fail_mode(&mut self, switch: Option<(FailMode, Duration)>, now: Now) {
        self.fail_mode = switch.map(|(mode, duration)| (mode, Deadline::after(duration, now)));
    }

    /// Forces logins online for `duration`, or ends that.
    pub(crate) fn set_force_online(&mut self, duration: Option<Duration>, now: Now) {
        self.force_online = duration.map(|duration| Deadline::after(duration, now));
    }

    pub(crate) fn active(&self, now: Now) -> ActiveSwitches {
        let fail_mode = self.fail_mode.filter(|(_, end)| !end.is_over(now));
        let force_online = self.force_online.filter(|end| !end.is_over(now));
        ActiveSwitches {
            fail_mode: fail_mode.map(|(mode, end)| (mode, end.0.wall)),
            force_online: force_online.map(|end| end.0.wall),
        }
    }
}
