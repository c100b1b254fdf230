//! The logins and sessions that ended lately.
//!
//! A list that was asked for before the end still has the session, and a disconnect-script may
//! report after the list showed the end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{OcservId, Username};

use crate::time::seconds;

/// How long an end is kept. A list and a script are late by seconds; this also covers a suspended
/// machine.
const KEEP: Duration = Duration::from_hours(1);

/// Longest delay of a script: its start, and the time that it waits for the agent.
const MAX_SCRIPT_DELAY: u64 = 10;

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOf {
    /// A session, with its events.
    Session,
    /// A login that did not become a session: it was denied, or its answer was not read. The client
    /// may be connected all the same, where the connect-script allows without an answer.
    Login,
}

#[derive(Debug)]
struct Ended {
    what: EndOf,
    username: Username,
    /// When ocserv accepted the connection, or later, in seconds since 1970.
    second: u64,
    at: SystemTime,
}

/// The last end of each ocserv id.
#[derive(Debug, Default)]
pub(crate) struct RecentEnds {
    by_id: HashMap<OcservId, Ended>,
}

impl RecentEnds {
    /// Adds an end; a full memory of `max` first forgets what is older than it has to keep, and
    /// then everything.
    pub(crate) fn add(
        &mut self,
        what: EndOf,
        (id, username, second): (OcservId, Username, u64),
        at: SystemTime,
        max: usize,
    ) {
        if self.by_id.len() >= max {
            self.forget_old(at);
        }
        if self.by_id.len() >= max {
            self.by_id.clear();
        }
        let ended = Ended {
            what,
            username,
            second,
            at,
        };
        self.by_id.insert(id, ended);
    }

    /// Removes what no list and no script can be about any more.
    pub(crate) fn forget_old(&mut self, now: SystemTime) {
        if !self.by_id.is_empty() {
            self.by_id
                .retain(|_, ended| now.duration_since(ended.at).is_ok_and(|age| age < KEEP));
        }
    }

    /// Whether a listed connection is that of a session that has ended, or of an earlier one.
    pub(crate) fn has_session(&self, id: OcservId, connected_at: u64) -> bool {
        self.by_id.get(&id).is_some_and(|ended| {
            ended.what == EndOf::Session && connected_at <= ended.second.saturating_add(1)
        })
    }

    /// Whether the report of an end is about a session or login that has ended already. `start` is
    /// the connection's start as the report has it, in seconds since 1970.
    pub(crate) fn has_reported(
        &self,
        id: OcservId,
        username: &Username,
        start: Option<u64>,
        has_traffic: bool,
    ) -> bool {
        self.by_id.get(&id).is_some_and(|ended| {
            ended.username == *username
                && start.is_none_or(|start| start <= seconds(ended.at).saturating_add(MAX_SCRIPT_DELAY))
                && (ended.what == EndOf::Session || !has_traffic)
        })
    }

    pub(crate) fn remove(&mut self, id: OcservId) {
        self.by_id.remove(&id);
    }
}
