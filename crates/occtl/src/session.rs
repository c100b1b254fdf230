//! One connection to ocserv, in our words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::DecodeError;
use crate::safe_id::SafeId;
use crate::{text, wire};

/// One connection to ocserv: a session, or what may become one.
///
/// ocserv lists every TCP connection, also those that have not logged in: look at [`state`](Self::state). `None` and an
/// empty list mean that ocserv did not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The pid of the worker process, `ID` in the scripts' environment. It changes with every reconnect and is used again:
    /// a connection is identified by this and [`connected_at`](Self::connected_at).
    pub id: i32,
    /// How far the connection is.
    pub state: State,
    /// Who it is; `None` before the login, and for a name that is not UTF-8, which [`username_bytes`](Self::username_bytes)
    /// still tells.
    pub username: Option<String>,
    /// The name as ocserv has it, at most 63 bytes; empty before the login.
    pub username_bytes: Vec<u8>,
    /// The user's group.
    pub group: Option<String>,
    /// The virtual host, `default` for the one without a name.
    pub vhost: Option<String>,
    /// Where the client connects from.
    pub client_ip: Option<IpAddr>,
    /// Where the client connects to.
    pub server_ip: Option<IpAddr>,
    /// The client's address in the VPN.
    pub vpn_ipv4: Option<Ipv4Addr>,
    /// The client's address in the VPN. Reserved and listed also where the client did not ask for it.
    pub vpn_ipv6: Option<Ipv6Addr>,
    /// The server's end of the tunnel.
    pub vpn_server_ipv4: Option<Ipv4Addr>,
    /// The server's end of the tunnel.
    pub vpn_server_ipv6: Option<Ipv6Addr>,
    /// The tunnel device, such as `vpns0`. The next session gets the name of one that ended.
    pub device: Option<String>,
    /// When this connection was accepted, in seconds since 1970.
    pub connected_at: Option<u64>,
    /// When the login began that this connection belongs to, in seconds since 1970. ocserv 1.4.1 and newer.
    pub session_started_at: Option<u64>,
    /// Whether the server sent a field for [`session_started_at`](Self::session_started_at) at all; see
    /// [`reports_session_start`].
    pub has_session_start: bool,
    /// The login that this connection belongs to.
    pub safe_id: Option<SafeId>,
    /// The client's name for its machine. The client chooses it freely.
    pub hostname: Option<String>,
    /// The client's name for itself. The client chooses it freely.
    pub user_agent: Option<String>,
    /// Cipher of the TLS channel.
    pub tls_cipher: Option<String>,
    /// Cipher of the DTLS channel, `None` also where there is no such channel.
    pub dtls_cipher: Option<String>,
    /// Compression of the TLS channel, `None` also where there is none.
    pub tls_compression: Option<String>,
    /// Compression of the DTLS channel, `None` also where there is none.
    pub dtls_compression: Option<String>,
    /// Limit for what the client sends, in bytes per second; 0 is no limit.
    pub upload_limit: Option<u32>,
    /// Limit for what the client receives, in bytes per second; 0 is no limit.
    pub download_limit: Option<u32>,
    /// MTU of the tunnel, in bytes.
    pub mtu: Option<u32>,
    /// Interval of dead peer detection, in seconds.
    pub dpd: Option<u32>,
    /// Interval of keepalives, in seconds.
    pub keepalive: Option<u32>,
    /// Name servers the client was given.
    pub dns: Vec<String>,
    /// NetBIOS name servers the client was given.
    pub nbns: Vec<String>,
    /// `split-dns` of the virtual host; ocserv never tells what a user's own file says.
    pub split_dns: Vec<String>,
    /// Routes the client was given, IPv4 with a netmask; `default` if that is what is configured; empty also where all
    /// traffic goes through the tunnel.
    pub routes: Vec<String>,
    /// Routes that the client was told to keep out of the tunnel.
    pub no_routes: Vec<String>,
    /// Networks behind the client.
    pub iroutes: Vec<String>,
    /// Whether a firewall keeps the client to its routes.
    pub restricted_to_routes: Option<bool>,
    /// What `restrict-user-to-ports` says.
    pub port_rules: Vec<PortRule>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// ocserv did not say.
    #[default]
    Unreported,
    /// Nobody has logged in on it.
    PreAuth,
    /// The login failed, **or** it succeeded and the connect-script is still running: ocserv says the same for both.
    AuthFailed,
    /// The login is going on.
    Authenticating,
    /// The tunnel is up.
    Connected,
    /// A number that was not known when this was written.
    Unknown(u32),
}

impl From<Option<u32>> for State {
    fn from(number: Option<u32>) -> Self {
        match number {
            None => Self::Unreported,
            Some(0) => Self::PreAuth,
            Some(1) => Self::AuthFailed,
            Some(2 | 3) => Self::Authenticating,
            Some(4) => Self::Connected,
            Some(other) => Self::Unknown(other),
        }
    }
}

/// One rule of `restrict-user-to-ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PortRule {
    /// What it is about.
    pub protocol: PortProtocol,
    /// The port; 0 where the protocol has none.
    pub port: u32,
    /// Whether the rule forbids, where others allow.
    pub forbids: bool,
}

/// The protocol of a [`PortRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are their own names")]
pub enum PortProtocol {
    Udp,
    Tcp,
    Sctp,
    Esp,
    Icmp,
    Icmpv6,
    /// A number that was not known when this was written.
    Unknown(u32),
}

impl From<u32> for PortProtocol {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Udp,
            1 => Self::Tcp,
            2 => Self::Sctp,
            3 => Self::Esp,
            4 => Self::Icmp,
            5 => Self::Icmpv6,
            other => Self::Unknown(other),
        }
    }
}

impl Session {
    /// Whether the tunnel is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }
}

/// Whether the server tells when a login began, which ocserv does from 1.4.1 on: `None` if the list is empty and so says
/// nothing.
///
/// A hint at the version that costs nothing. What the server really knows is asked with
/// [`ControlSocket::knows_terminate`](crate::ControlSocket::knows_terminate).
#[must_use]
pub fn reports_session_start(sessions: &[Session]) -> Option<bool> {
    (!sessions.is_empty()).then(|| sessions.iter().any(|session| session.has_session_start))
}

impl TryFrom<wire::UserInfo> for Session {
    type Error = DecodeError;

    fn try_from(row: wire::UserInfo) -> Result<Self, DecodeError> {
        let state = State::from(row.status);
        let vhost = text::exact(row.vhost);
        Ok(Self {
            id: row.id.ok_or(DecodeError::Missing("session id"))?,
            state,
            username: text::exact(row.username.clone()),
            username_bytes: row.username.unwrap_or_default(),
            group: text::exact(row.groupname),
            // Before the login ocserv has no virtual host and writes this word.
            vhost: vhost.filter(|name| state != State::PreAuth || name != "unknown"),
            client_ip: text::address(row.ip.as_deref()),
            server_ip: text::address(row.local_dev_ip.as_deref()),
            // On the wire, "local" is the client and "remote" is the server.
            vpn_ipv4: text::ipv4(row.local_ip.as_deref()),
            vpn_ipv6: text::ipv6(row.local_ip6.as_deref()),
            vpn_server_ipv4: text::ipv4(row.remote_ip.as_deref()),
            vpn_server_ipv6: text::ipv6(row.remote_ip6.as_deref()),
            device: text::exact(row.tun),
            connected_at: text::epoch(row.conn_time),
            session_started_at: text::epoch(row.session_start_time),
            has_session_start: row.session_start_time.is_some(),
            safe_id: SafeId::from_wire(row.safe_id.as_deref()),
            hostname: text::shown(row.hostname),
            user_agent: text::shown(row.user_agent),
            tls_cipher: text::shown(row.tls_ciphersuite),
            dtls_cipher: text::shown(row.dtls_ciphersuite),
            tls_compression: text::shown(row.cstp_compr),
            dtls_compression: text::shown(row.dtls_compr),
            upload_limit: row.rx_per_sec,
            download_limit: row.tx_per_sec,
            mtu: row.mtu,
            dpd: row.dpd,
            keepalive: row.keepalive,
            dns: text::shown_all(row.dns),
            nbns: text::shown_all(row.nbns),
            split_dns: text::shown_all(row.domains),
            routes: text::shown_all(row.routes),
            no_routes: text::shown_all(row.no_routes),
            iroutes: text::shown_all(row.iroutes),
            restricted_to_routes: row.restrict_to_routes,
            port_rules: row
                .fw_ports
                .into_iter()
                .map(PortRule::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<wire::FwPort> for PortRule {
    type Error = DecodeError;

    fn try_from(rule: wire::FwPort) -> Result<Self, DecodeError> {
        let missing = DecodeError::Missing("part of a port rule");
        let (Some(port), Some(protocol), Some(negate)) = (rule.port, rule.proto, rule.negate) else {
            return Err(missing);
        };
        Ok(Self {
            protocol: protocol.into(),
            port,
            forbids: negate != 0,
        })
    }
}
