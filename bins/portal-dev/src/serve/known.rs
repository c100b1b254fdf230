//! What the portal was told about sessions: a validation names neither the group nor, in an update, the address.

use std::net::IpAddr;
use std::sync::Mutex;

use ocserv_agent_model::{GroupName, OcservId, Username};

use super::recent::Recent;

/// Far more sessions than a laptop's VPN has.
const BOUND: usize = 100_000;

/// The session as its agent names it: agent, user, ocserv's number.
pub(super) type Key = (String, Username, OcservId);

/// What was said about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) group: Option<GroupName>,
    pub(super) client_ip: IpAddr,
}

pub(super) struct KnownSessions(Mutex<Recent<Key, Known>>);

impl KnownSessions {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent::new(BOUND)))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Known> {
        self.with(|sessions| sessions.get(key).cloned())
    }

    pub(super) fn insert(&self, key: Key, known: Known) {
        self.with(|sessions| sessions.insert(key, known));
    }

    pub(super) fn remove(&self, key: &Key) {
        self.with(|sessions| sessions.remove(key));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recent<Key, Known>) -> T) -> T {
        // The map is whole after each of its methods, also where one panicked.
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
