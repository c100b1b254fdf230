//! `[ocserv]`: the ocserv on this server.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checker::Checker;
use super::period::Period;

/// The control socket of ocserv, and how often it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ocserv {
    /// The path of the control socket: `occtl-socket-file` of ocserv.conf.
    pub occtl_socket: PathBuf,
    /// Longest time of one request on it.
    pub occtl_timeout: Period,
    /// Time between two requests for the list of sessions.
    pub poll_interval: Period,
}

impl Default for Ocserv {
    fn default() -> Self {
        // ocserv's own default is /var/run/occtl.socket (its ctl.h), and /var/run is a link to
        // /run.
        Self {
            occtl_socket: PathBuf::from("/run/occtl.socket"),
            occtl_timeout: Period::seconds(2),
            poll_interval: Period::seconds(10),
        }
    }
}

impl Ocserv {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.absolute("ocserv.occtl_socket", &self.occtl_socket);
        checker.period("ocserv.occtl_timeout", self.occtl_timeout, Duration::from_mins(1));
        checker.period_from(
            "ocserv.poll_interval",
            self.poll_interval,
            Duration::from_millis(100),
            Duration::from_mins(10),
        );
    }
}
