//! A decoded connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::DecodeError;
use crate::safe_id::SafeId;
use crate::{text, wire};

/// One TCP connection to ocserv: a session, or one that has not logged in yet; see
/// [`state`](Self::state).
///
/// `None` and an empty list mean that ocserv did not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The pid of the worker process, `ID` in the scripts' environment. It changes with every
    /// reconnect and is reused: a connection is identified by this and
    /// [`connected_at`](Self::connected_at).
    pub id: i32,
    /// State of the connection.
    pub state: State,
    /// The username; `None` before the login, and for one that is not UTF-8, see
    /// [`username_bytes`](Self::username_bytes).
    pub username: Option<String>,
    /// The username as ocserv has it, at most 63 bytes; empty before the login.
    pub username_bytes: Vec<u8>,
    /// The user's group.
    pub group: Option<String>,
    /// The virtual host, `default` for the one without a name.
    pub vhost: Option<String>,
    /// The client's address, without a scope.
    pub client_ip: Option<IpAddr>,
    /// The server's address that the client connected to.
    pub server_ip: Option<IpAddr>,
    /// The client's IPv4 address in the VPN.
    pub vpn_ipv4: Option<Ipv4Addr>,
    /// The client's IPv6 address in the VPN. Leased and listed also for a client that did not
    /// request it.
    pub vpn_ipv6: Option<Ipv6Addr>,
    /// The server's IPv4 address in the VPN.
    pub vpn_server_ipv4: Option<Ipv4Addr>,
    /// The server's IPv6 address in the VPN.
    pub vpn_server_ipv6: Option<Ipv6Addr>,
    /// The tunnel device, such as `vpns0`. Names are reused.
    pub device: Option<String>,
    /// Time of the TCP accept, in seconds since 1970.
    pub connected_at: Option<u64>,
    /// Start of the login that this connection belongs to, in seconds since 1970; ocserv 1.4.1 and
    /// newer.
    pub session_started_at: Option<u64>,
    /// Whether the reply has a field for [`session_started_at`](Self::session_started_at); see
    /// [`reports_session_start`].
    pub has_session_start: bool,
    /// The login that this connection belongs to.
    pub safe_id: Option<SafeId>,
    /// The client's hostname. Untrusted: the client sends what it likes.
    pub hostname: Option<String>,
    /// The client's user agent. Untrusted: the client sends what it likes.
    pub user_agent: Option<String>,
    /// Cipher of the TLS channel.
    pub tls_cipher: Option<String>,
    /// Cipher of the DTLS channel, `None` also where there is no such channel.
    pub dtls_cipher: Option<String>,
    /// Compression of the TLS channel, `None` also where there is none.
    pub tls_compression: Option<String>,
    /// Compression of the DTLS channel, `None` also where there is none.
    pub dtls_compression: Option<String>,
    /// Upload limit (client to server), in bytes per second; 0 is no limit.
    pub upload_limit: Option<u32>,
    /// Download limit (server to client), in bytes per second; 0 is no limit.
    pub download_limit: Option<u32>,
    /// MTU of the tunnel, in bytes.
    pub mtu: Option<u32>,
    /// Interval of dead peer detection, in seconds.
    pub dpd: Option<u32>,
    /// Interval of keepalives, in seconds.
    pub keepalive: Option<u32>,
    /// Name servers sent to the client.
    pub dns: Vec<String>,
    /// NetBIOS name servers sent to the client.
    pub nbns: Vec<String>,
    /// `split-dns` of the virtual host. ocserv never reports a per-user value.
    pub split_dns: Vec<String>,
    /// Routes sent to the client, IPv4 with a netmask; `default` if so configured; empty also where
    /// all traffic goes through the tunnel.
    pub routes: Vec<String>,
    /// Routes excluded from the tunnel (`no-route`).
    pub no_routes: Vec<String>,
    /// Networks behind the client (`iroute`).
    pub iroutes: Vec<String>,
    /// Whether a firewall restricts the client to its routes (`restrict-user-to-routes`).
    pub restricted_to_routes: Option<bool>,
    /// The rules of `restrict-user-to-ports`.
    pub port_rules: Vec<PortRule>,
}

/// State of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// ocserv did not report it.
    #[default]
    Unreported,
    /// Before the login.
    PreAuth,
    /// The login failed, **or** it succeeded and the connect-script is still running: ocserv
    /// reports both as this.
    AuthFailed,
    /// The login is in progress.
    Authenticating,
    /// The tunnel is up.
    Connected,
    /// A number that this crate does not know.
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
    /// The protocol that the rule applies to.
    pub protocol: PortProtocol,
    /// The port; 0 where the protocol has none.
    pub port: u32,
    /// Whether the rule denies; otherwise it allows.
    pub denies: bool,
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
    /// A number that this crate does not know.
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
    /// Returns whether the tunnel is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }
}

/// Returns whether the server reports the start of logins, as ocserv does since 1.4.1; `None` for
/// an empty list.
///
/// A hint at the version without a request. For certainty ask with
/// [`ControlSocket::supports_terminate`](crate::ControlSocket::supports_terminate).
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
            hostname: text::lossy(row.hostname),
            user_agent: text::lossy(row.user_agent),
            tls_cipher: text::lossy(row.tls_ciphersuite),
            dtls_cipher: text::lossy(row.dtls_ciphersuite),
            tls_compression: text::lossy(row.cstp_compr),
            dtls_compression: text::lossy(row.dtls_compr),
            upload_limit: row.rx_per_sec,
            download_limit: row.tx_per_sec,
            mtu: row.mtu,
            dpd: row.dpd,
            keepalive: row.keepalive,
            dns: text::lossy_all(row.dns),
            nbns: text::lossy_all(row.nbns),
            split_dns: text::lossy_all(row.domains),
            routes: text::lossy_all(row.routes),
            no_routes: text::lossy_all(row.no_routes),
            iroutes: text::lossy_all(row.iroutes),
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
            denies: negate != 0,
        })
    }
}
