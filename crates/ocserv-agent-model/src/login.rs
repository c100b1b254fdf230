//! Logins.

use std::net::IpAddr;

use crate::name::{GroupName, Username, VhostName};
use crate::session::OcservId;

/// A valid login request from ocserv's connect-script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: Username,
    /// The user's group, if ocserv assigned one.
    pub group: Option<GroupName>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The virtual host; `None` when the helper sent none.
    pub vhost: Option<VhostName>,
    /// ocserv's ID of the session.
    pub id: OcservId,
    /// The client's address inside the VPN: IPv4 where there is one, else IPv6.
    pub vpn_ip: Option<IpAddr>,
    /// The session's tun device; reused at once by the next session.
    pub device: String,
}
