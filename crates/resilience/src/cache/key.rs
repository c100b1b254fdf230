//! Keys of decisions.

use std::net::IpAddr;

use ocserv_agent_model::{GroupName, Login, Username, VhostName};

/// The inputs of a decision. Logins with the same key get the same decision; keys are compared
/// whole, never by a hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// The user.
    pub username: Username,
    /// The user's group.
    pub group: Option<GroupName>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The virtual host.
    pub vhost: Option<VhostName>,
}

/// The group and virtual host of a login, whatever its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessScope {
    /// The user's group.
    pub group: Option<GroupName>,
    /// The virtual host.
    pub vhost: Option<VhostName>,
}

impl CacheKey {
    pub(super) fn is_in(&self, scope: &AccessScope) -> bool {
        (&self.group, &self.vhost) == (&scope.group, &scope.vhost)
    }

    pub(super) fn scope(&self) -> AccessScope {
        AccessScope {
            group: self.group.clone(),
            vhost: self.vhost.clone(),
        }
    }

    pub(super) fn same_but_address(&self, other: &Self) -> bool {
        let Self {
            username,
            group,
            client_ip: _,
            vhost,
        } = self;
        (username, group, vhost) == (&other.username, &other.group, &other.vhost)
    }
}

impl From<&Login> for CacheKey {
    fn from(login: &Login) -> Self {
        Self {
            username: login.username.clone(),
            group: login.group.clone(),
            client_ip: login.client_ip,
            vhost: login.vhost.clone(),
        }
    }
}
