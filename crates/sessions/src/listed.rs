//! A row of ocserv's list.

use std::net::IpAddr;

use ocserv_agent_model::OcservId;

/// A connection as ocserv lists it: a session, or one that is not connected yet. Borrows the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSession<'a> {
    /// ocserv's id of the connection.
    pub id: OcservId,
    /// The user; empty before the login.
    pub username: &'a str,
    /// When ocserv accepted the connection, in seconds since 1970.
    pub connected_at: u64,
    /// Whether the tunnel is up. ocserv lists a connection whose connect-script runs as one whose
    /// login failed: neither is a session, and neither has ended.
    pub is_connected: bool,
    /// The user's group.
    pub group: Option<&'a str>,
    /// The virtual host.
    pub vhost: Option<&'a str>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: Option<&'a str>,
}

/// The moment at which a list was asked for: it says nothing about entries that are newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListMark(pub(crate) u64);
