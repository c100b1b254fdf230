//! What a decision is about.

use std::net::IpAddr;

use ocserv_agent_model::{GroupName, Login, Username, VhostName};

/// What a decision is about. Two logins with the same key get the same decision; keys are compared whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// Who.
    pub username: Username,
    /// In which group.
    pub group: Option<GroupName>,
    /// From which address.
    pub client_ip: IpAddr,
    /// To which virtual host.
    pub vhost: Option<VhostName>,
}

/// Where a user comes in, whatever her address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// In which group.
    pub group: Option<GroupName>,
    /// To which virtual host.
    pub vhost: Option<VhostName>,
}

impl CacheKey {
    pub(super) fn is_at(&self, place: &Place) -> bool {
        (&self.group, &self.vhost) == (&place.group, &place.vhost)
    }

    pub(super) fn place(&self) -> Place {
        Place {
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
