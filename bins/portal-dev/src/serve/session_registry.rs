//! Group, virtual host and address of sessions, which later requests lack: a validation has no
//! group and no virtual host, an update no address either.

use std::net::IpAddr;
use std::sync::Mutex;

use ocserv_agent_model::{GroupName, OcservId, Username, VhostName};
use policy::{Evaluation, Policy};

use super::bounded_map::BoundedMap;

/// The largest number of sessions; beyond it the oldest is evicted.
const MAX_SESSIONS: usize = 100_000;

/// Identity of a session: agent, user and ocserv's ID.
pub(super) type SessionKey = (String, Username, OcservId);

/// Group, virtual host and address of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionInfo {
    pub(super) group: Option<GroupName>,
    /// `None`: unknown.
    pub(super) vhost: Option<VhostName>,
    pub(super) client_ip: IpAddr,
}

impl SessionInfo {
    /// Evaluates the policy for the session; `None` when the verdict depends on what is unknown.
    pub(super) fn evaluate(
        &self,
        policy: &Policy,
        username: &Username,
        client_ip: IpAddr,
    ) -> Option<Evaluation> {
        let group = self.group.as_ref();
        match &self.vhost {
            Some(vhost) => Some(policy.evaluate(username, group, vhost, client_ip)),
            None => policy.evaluate_without_vhost(username, group, client_ip),
        }
    }
}

pub(super) struct SessionRegistry(Mutex<BoundedMap<SessionKey, SessionInfo>>);

impl SessionRegistry {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX_SESSIONS)))
    }

    pub(super) fn get(&self, key: &SessionKey) -> Option<SessionInfo> {
        self.with(|sessions| sessions.get(key).cloned())
    }

    pub(super) fn insert(&self, key: SessionKey, session: SessionInfo) {
        self.with(|sessions| sessions.insert(key, session));
    }

    pub(super) fn remove(&self, key: &SessionKey) {
        self.with(|sessions| sessions.remove(key));
    }

    fn with<T>(&self, act: impl FnOnce(&mut BoundedMap<SessionKey, SessionInfo>) -> T) -> T {
        // No panic leaves the map inconsistent.
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
