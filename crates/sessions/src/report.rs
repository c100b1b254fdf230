//! The report of a disconnect-script.

use std::net::IpAddr;
use std::time::Duration;

use ocserv_agent_model::{GroupName, OcservId, Usage, Username, VhostName};

/// The report of a disconnect-script. What ocserv did not say is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisconnectReport {
    /// ocserv's id of the session.
    pub id: OcservId,
    /// The session's user.
    pub username: Username,
    /// Bytes transferred. Zeros may mean that ocserv did not know.
    pub usage: Option<Usage>,
    /// Duration since the TCP accept.
    pub duration: Option<Duration>,
    /// The virtual host.
    pub vhost: Option<VhostName>,
    /// The user's group.
    pub group: Option<GroupName>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: String,
}
