//! A login that waits for a decision.

use std::net::IpAddr;

use crate::{GroupName, OcservId, Username, VhostName};

/// What ocserv says about a client whose connect-script runs. All of it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub username: Username,
    /// In which group, if ocserv put the user in one.
    pub group: Option<GroupName>,
    /// From which address.
    pub client_ip: IpAddr,
    /// To which virtual host; `None` when the helper did not say.
    pub vhost: Option<VhostName>,
    /// ocserv's number of the session.
    pub id: OcservId,
    /// The client's address inside the VPN: IPv4 where there is one, else IPv6.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device that ocserv gave the session; reused at once by the next one.
    pub device: String,
}
