//! The messages of ocserv's `ctl.proto` that the fake uses, with field numbers from recorded
//! replies.

use prost::Message;

/// The commands of `occtl/ctl.h`.
pub mod command {
    /// Queries the server's status.
    pub const STATUS: u8 = 1;
    /// Lists all sessions.
    pub const LIST: u8 = 4;
    /// Lists the sessions of a user.
    pub const USER_INFO: u8 = 5;
    /// Queries one session.
    pub const ID_INFO: u8 = 6;
    /// Disconnects the sessions of a user.
    pub const DISCONNECT_NAME: u8 = 7;
    /// Disconnects one session.
    pub const DISCONNECT_ID: u8 = 8;
    /// Lists the logins whose cookies are valid.
    pub const LIST_COOKIES: u8 = 12;
    /// Disconnects a user and invalidates the cookies; since 1.4.2.
    pub const TERMINATE_USER: u8 = 13;
    /// Disconnects one login and invalidates its cookie; since 1.4.2.
    pub const TERMINATE_SESSION: u8 = 15;
    /// Answers [`STATUS`].
    pub const STATUS_REPLY: u8 = 101;
    /// Answers [`LIST`], [`USER_INFO`] and [`ID_INFO`].
    pub const LIST_REPLY: u8 = 104;
    /// Answers [`DISCONNECT_NAME`].
    pub const DISCONNECT_NAME_REPLY: u8 = 105;
    /// Answers [`DISCONNECT_ID`].
    pub const DISCONNECT_ID_REPLY: u8 = 106;
    /// Answers [`LIST_COOKIES`].
    pub const LIST_COOKIES_REPLY: u8 = 110;
    /// Answers [`TERMINATE_USER`].
    pub const TERMINATE_USER_REPLY: u8 = 111;
    /// Answers [`TERMINATE_SESSION`].
    pub const TERMINATE_SESSION_REPLY: u8 = 113;
}

/// A session of the fake. Texts are as ocserv sends them: empty where unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeSession {
    /// The worker's pid.
    pub id: i32,
    /// Any bytes, as a client may send them.
    pub username: Vec<u8>,
    /// The user's group.
    pub group: String,
    /// The virtual host.
    pub vhost: String,
    /// The client's address.
    pub client_ip: String,
    /// Its IPv4 address inside the VPN.
    pub vpn_ipv4: String,
    /// Its IPv6 address inside the VPN.
    pub vpn_ipv6: String,
    /// The tun device.
    pub device: String,
    /// The time of the connection, in seconds since 1970.
    pub connected_at: u32,
    /// 0 before login, 1 failed or in its connect-script, 2 and 3 authenticating, 4 connected.
    pub state: u32,
    /// The client's hostname.
    pub hostname: String,
    /// The client's user agent.
    pub user_agent: String,
    /// The id of the login, 28 characters.
    pub safe_id: String,
}

impl FakeSession {
    /// Returns a connected session.
    #[must_use]
    pub fn connected(id: i32, username: &str) -> Self {
        Self {
            id,
            username: username.as_bytes().to_vec(),
            group: String::new(),
            vhost: "default".to_owned(),
            client_ip: "10.77.0.2".to_owned(),
            vpn_ipv4: "10.88.63.50".to_owned(),
            vpn_ipv6: String::new(),
            device: "bvpn0".to_owned(),
            connected_at: 1_795_223_060,
            state: 4,
            hostname: "pc".to_owned(),
            user_agent: "Open AnyConnect VPN Agent v9.01-3".to_owned(),
            safe_id: "YjSoCE/CKYwbaWcIhDLOxAWCfEE=".to_owned(),
        }
    }

    /// Returns a session whose connect-script runs.
    #[must_use]
    pub fn in_script(id: i32, username: &str) -> Self {
        Self {
            state: 1,
            ..Self::connected(id, username)
        }
    }

    /// Returns a connection before its login.
    #[must_use]
    pub fn before_login(id: i32) -> Self {
        Self {
            username: Vec::new(),
            vhost: "unknown".to_owned(),
            vpn_ipv4: String::new(),
            device: String::new(),
            state: 0,
            hostname: String::new(),
            user_agent: String::new(),
            safe_id: "3oqEe/+MND1puFOiFebud17y75Y=".to_owned(),
            ..Self::connected(id, "")
        }
    }

    /// Builds the row; `session_start` is whether this release sends the time of the login.
    pub(super) fn to_message(&self, session_start: bool) -> UserInfo {
        UserInfo {
            session_start_time: session_start.then(|| i64::from(self.connected_at)),
            id: self.id,
            username: self.username.clone(),
            groupname: self.group.clone(),
            ip: self.client_ip.clone(),
            tun: self.device.clone(),
            remote_ip: if self.vpn_ipv4.is_empty() {
                String::new()
            } else {
                "10.88.0.1".to_owned()
            },
            local_ip: self.vpn_ipv4.clone(),
            remote_ip6: if self.vpn_ipv6.is_empty() {
                String::new()
            } else {
                "fd88:0:0:1::1".to_owned()
            },
            local_ip6: self.vpn_ipv6.clone(),
            conn_time: self.connected_at,
            hostname: self.hostname.clone(),
            user_agent: self.user_agent.clone(),
            status: self.state,
            tls_ciphersuite: "(TLS1.3)-(ECDHE-SECP256R1)-(ECDSA-SECP256R1-SHA256)-(AES-256-GCM)".to_owned(),
            dtls_ciphersuite: String::new(),
            cstp_compression: String::new(),
            dtls_compression: String::new(),
            local_dev_ip: "10.77.0.1".to_owned(),
            dpd: 90,
            keepalive: 300,
            restrict_to_routes: 0,
            safe_id: format!("{}\0", self.safe_id),
            vhost: self.vhost.clone(),
        }
    }
}

/// A login whose cookie is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeLogin {
    /// The id of the login, 28 characters.
    pub safe_id: String,
    /// Any bytes, as a client may send them.
    pub username: Vec<u8>,
    /// Whether it has a connection.
    pub in_use: bool,
    /// 1 failed, 2 and 3 authenticating, 4 authenticated.
    pub state: u32,
}

impl FakeLogin {
    /// Returns a login without a connection: its client may reconnect without a password.
    #[must_use]
    pub fn detached(safe_id: &str, username: &str) -> Self {
        Self {
            safe_id: safe_id.to_owned(),
            username: username.as_bytes().to_vec(),
            in_use: false,
            state: 4,
        }
    }

    pub(super) fn to_message(&self) -> CookieInfo {
        CookieInfo {
            safe_id: format!("{}\0", self.safe_id).into_bytes(),
            session_is_open: self.in_use,
            tls_auth_ok: false,
            created: 1_795_223_060,
            username: self.username.clone(),
            groupname: String::new(),
            user_agent: String::new(),
            remote_ip: "10.77.0.2".to_owned(),
            expires: 1_795_223_360,
            status: self.state,
            in_use: u32::from(self.in_use),
            vhost: "default".to_owned(),
        }
    }
}

// ocserv's file is proto2, with these fields required: they are sent also when zero or empty.

#[derive(Clone, PartialEq, Message)]
pub(super) struct UserInfo {
    #[prost(sint32, required, tag = "1")]
    id: i32,
    #[prost(bytes = "vec", required, tag = "2")]
    username: Vec<u8>,
    #[prost(string, required, tag = "3")]
    groupname: String,
    #[prost(string, required, tag = "4")]
    ip: String,
    #[prost(string, required, tag = "5")]
    tun: String,
    /// The server's address in the VPN.
    #[prost(string, required, tag = "6")]
    remote_ip: String,
    /// The client's address in the VPN.
    #[prost(string, required, tag = "7")]
    local_ip: String,
    #[prost(string, required, tag = "8")]
    remote_ip6: String,
    #[prost(string, required, tag = "9")]
    local_ip6: String,
    #[prost(uint32, required, tag = "10")]
    conn_time: u32,
    #[prost(string, required, tag = "11")]
    hostname: String,
    #[prost(string, required, tag = "12")]
    user_agent: String,
    #[prost(uint32, required, tag = "13")]
    status: u32,
    #[prost(string, required, tag = "14")]
    tls_ciphersuite: String,
    #[prost(string, required, tag = "15")]
    dtls_ciphersuite: String,
    #[prost(string, required, tag = "23")]
    cstp_compression: String,
    #[prost(string, required, tag = "24")]
    dtls_compression: String,
    #[prost(string, required, tag = "26")]
    local_dev_ip: String,
    #[prost(uint32, required, tag = "28")]
    dpd: u32,
    #[prost(uint32, required, tag = "29")]
    keepalive: u32,
    #[prost(uint32, required, tag = "30")]
    restrict_to_routes: u32,
    /// Ends in a NUL, as C sends it.
    #[prost(string, required, tag = "32")]
    safe_id: String,
    #[prost(string, required, tag = "33")]
    vhost: String,
    #[prost(int64, optional, tag = "34")]
    session_start_time: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UserList {
    #[prost(message, repeated, tag = "1")]
    pub(super) user: Vec<UserInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CookieInfo {
    /// Ends in a NUL, as C sends it.
    #[prost(bytes = "vec", required, tag = "1")]
    safe_id: Vec<u8>,
    #[prost(bool, required, tag = "2")]
    session_is_open: bool,
    #[prost(bool, required, tag = "3")]
    tls_auth_ok: bool,
    #[prost(uint32, required, tag = "4")]
    created: u32,
    #[prost(bytes = "vec", required, tag = "5")]
    username: Vec<u8>,
    #[prost(string, required, tag = "6")]
    groupname: String,
    #[prost(string, required, tag = "7")]
    user_agent: String,
    #[prost(string, required, tag = "8")]
    remote_ip: String,
    #[prost(uint32, required, tag = "9")]
    expires: u32,
    #[prost(uint32, required, tag = "10")]
    status: u32,
    #[prost(uint32, required, tag = "11")]
    in_use: u32,
    #[prost(string, required, tag = "12")]
    vhost: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CookieList {
    #[prost(message, repeated, tag = "1")]
    pub(super) cookies: Vec<CookieInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SafeIdRequest {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) safe_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UsernameRequest {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) username: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IdRequest {
    #[prost(sint32, required, tag = "1")]
    pub(super) id: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BoolMessage {
    #[prost(bool, required, tag = "1")]
    pub(super) status: bool,
}

/// `status_rep`. Fields that the fake does not use are zero, but occtl rejects a message without
/// them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusReply {
    #[prost(bool, required, tag = "1")]
    status: bool,
    #[prost(uint32, required, tag = "2")]
    pid: u32,
    #[prost(uint32, required, tag = "3")]
    sec_mod_pid: u32,
    #[prost(uint32, required, tag = "4")]
    active_clients: u32,
    #[prost(uint32, required, tag = "5")]
    start_time: u32,
    #[prost(uint32, required, tag = "7")]
    stored_tls_sessions: u32,
    #[prost(uint32, required, tag = "8")]
    banned_ips: u32,
    #[prost(uint32, required, tag = "9")]
    field9: u32,
    #[prost(uint32, required, tag = "10")]
    field10: u32,
    #[prost(uint32, required, tag = "11")]
    field11: u32,
    #[prost(uint32, required, tag = "12")]
    field12: u32,
    #[prost(uint32, required, tag = "13")]
    field13: u32,
    #[prost(uint32, required, tag = "14")]
    field14: u32,
    #[prost(uint32, required, tag = "15")]
    field15: u32,
    #[prost(uint32, required, tag = "16")]
    field16: u32,
    #[prost(uint32, required, tag = "17")]
    field17: u32,
    #[prost(uint32, required, tag = "18")]
    last_reset: u32,
    #[prost(uint32, required, tag = "19")]
    field19: u32,
    #[prost(uint32, required, tag = "20")]
    field20: u32,
    #[prost(uint32, required, tag = "21")]
    field21: u32,
    #[prost(uint32, required, tag = "22")]
    field22: u32,
    #[prost(uint32, required, tag = "23")]
    field23: u32,
    #[prost(uint32, required, tag = "24")]
    sec_mod_instances: u32,
    #[prost(uint32, required, tag = "25")]
    field25: u32,
    #[prost(uint32, required, tag = "26")]
    field26: u32,
    #[prost(uint32, required, tag = "27")]
    field27: u32,
    #[prost(uint32, required, tag = "28")]
    field28: u32,
}

impl StatusReply {
    pub(super) fn new(clients: usize, starts: u32) -> Self {
        Self {
            status: true,
            pid: 21_619 + 2 * starts,
            sec_mod_pid: 21_620 + 2 * starts,
            active_clients: u32::try_from(clients).unwrap_or(u32::MAX),
            start_time: 1_795_223_057 + starts,
            last_reset: 1_795_223_057 + starts,
            sec_mod_instances: 1,
            ..Self::default()
        }
    }
}
