//! Protobuf messages, by the field numbers of ocserv's `ctl.proto` and `ipc.proto`.
//!
//! They differ from those files on purpose. Every field is optional, although ocserv declares many
//! required: a field that an older or newer server omits must not make the rest undecodable. Text
//! is bytes: ocserv copies names from clients unchecked, and one name that is not UTF-8 must not
//! make the whole list undecodable. Integers are as wide as in the newest ocserv; older ones send
//! the same varints. Public for programs that stand in for the server.

/// A request for one user (`username_req`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsernameRequest {
    /// Compared by ocserv as a C string, byte by byte, over all virtual hosts.
    #[prost(bytes = "vec", tag = "1")]
    pub username: Vec<u8>,
}

/// A request for one connection (`id_req`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct IdRequest {
    /// The ID; must be positive.
    #[prost(sint32, tag = "1")]
    pub id: i32,
}

/// A request for one login (`safe_id_req`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SafeIdRequest {
    /// Exactly 28 bytes, without the NUL that lists carry: ocserv refuses any other length.
    #[prost(bytes = "vec", tag = "1")]
    pub safe_id: Vec<u8>,
}

/// Reply to disconnect and terminate requests (`bool_msg`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct BoolReply {
    /// Whether ocserv found what to end.
    #[prost(bool, optional, tag = "1")]
    pub status: Option<bool>,
}

/// Reply to `list`, `user` and `id` (`user_list_rep`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserList {
    /// One per connection, newest first.
    #[prost(message, repeated, tag = "1")]
    pub user: Vec<UserInfo>,
}

/// One connection (`user_info_rep`). See [`crate::Session`] for the fields.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "ocserv's own names; crate::Session documents them")]
pub struct UserInfo {
    #[prost(sint32, optional, tag = "1")]
    pub id: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub username: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub groupname: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub ip: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub tun: Option<Vec<u8>>,
    /// The server's end of the tunnel.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub remote_ip: Option<Vec<u8>>,
    /// The client's end of the tunnel.
    #[prost(bytes = "vec", optional, tag = "7")]
    pub local_ip: Option<Vec<u8>>,
    /// The server's end of the tunnel.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub remote_ip6: Option<Vec<u8>>,
    /// The client's end of the tunnel.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub local_ip6: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "10")]
    pub conn_time: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "11")]
    pub hostname: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "12")]
    pub user_agent: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "13")]
    pub status: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub tls_ciphersuite: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "15")]
    pub dtls_ciphersuite: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "16")]
    pub rx_per_sec: Option<u32>,
    #[prost(uint32, optional, tag = "17")]
    pub tx_per_sec: Option<u32>,
    #[prost(bytes = "vec", repeated, tag = "18")]
    pub dns: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "19")]
    pub nbns: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub routes: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "21")]
    pub iroutes: Vec<Vec<u8>>,
    #[prost(uint32, optional, tag = "22")]
    pub mtu: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "23")]
    pub cstp_compr: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "24")]
    pub dtls_compr: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "25")]
    pub no_routes: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "26")]
    pub local_dev_ip: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "27")]
    pub domains: Vec<Vec<u8>>,
    #[prost(uint32, optional, tag = "28")]
    pub dpd: Option<u32>,
    #[prost(uint32, optional, tag = "29")]
    pub keepalive: Option<u32>,
    #[prost(bool, optional, tag = "30")]
    pub restrict_to_routes: Option<bool>,
    #[prost(message, repeated, tag = "31")]
    pub fw_ports: Vec<FwPort>,
    #[prost(bytes = "vec", optional, tag = "32")]
    pub safe_id: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "33")]
    pub vhost: Option<Vec<u8>>,
    /// Present since 1.4.1.
    #[prost(int64, optional, tag = "34")]
    pub session_start_time: Option<i64>,
}

/// One rule of `restrict-user-to-ports` (`fw_port_st`).
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "ocserv's own names; crate::PortRule documents them")]
pub struct FwPort {
    #[prost(uint32, optional, tag = "1")]
    pub port: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub proto: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub negate: Option<u32>,
}

/// Reply to `list cookies` (`secm_list_cookies_reply_msg`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct CookieList {
    /// One per login.
    #[prost(message, repeated, tag = "1")]
    pub cookies: Vec<CookieInfo>,
}

/// One login (`cookie_int_msg`). See [`crate::Cookie`] for the fields.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "ocserv's own names; crate::Cookie documents them")]
pub struct CookieInfo {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub safe_id: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "2")]
    pub session_is_open: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub tls_auth_ok: Option<bool>,
    #[prost(uint64, optional, tag = "4")]
    pub created: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub username: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub groupname: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub user_agent: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub remote_ip: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "9")]
    pub expires: Option<i64>,
    #[prost(uint32, optional, tag = "10")]
    pub status: Option<u32>,
    #[prost(bool, optional, tag = "11")]
    pub in_use: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "12")]
    pub vhost: Option<Vec<u8>>,
}

/// Reply to `status` (`status_rep`). See [`crate::Status`] for the fields.
#[derive(Clone, PartialEq, prost::Message)]
#[expect(missing_docs, reason = "ocserv's own names; crate::Status documents them")]
pub struct StatusReply {
    #[prost(bool, optional, tag = "1")]
    pub status: Option<bool>,
    #[prost(uint32, optional, tag = "2")]
    pub pid: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pub sec_mod_pids: Vec<u32>,
    #[prost(uint32, optional, tag = "4")]
    pub active_clients: Option<u32>,
    #[prost(int64, optional, tag = "5")]
    pub start_time: Option<i64>,
    #[prost(uint32, optional, tag = "7")]
    pub stored_tls_sessions: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub banned_ips: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub secmod_client_entries: Option<u32>,
    #[prost(uint64, optional, tag = "10")]
    pub session_timeouts: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub session_idle_timeouts: Option<u64>,
    #[prost(uint64, optional, tag = "12")]
    pub session_errors: Option<u64>,
    #[prost(uint64, optional, tag = "13")]
    pub sessions_closed: Option<u64>,
    #[prost(uint64, optional, tag = "14")]
    pub kbytes_in: Option<u64>,
    #[prost(uint64, optional, tag = "15")]
    pub kbytes_out: Option<u64>,
    #[prost(uint32, optional, tag = "16")]
    pub min_mtu: Option<u32>,
    #[prost(uint32, optional, tag = "17")]
    pub max_mtu: Option<u32>,
    #[prost(int64, optional, tag = "18")]
    pub last_reset: Option<i64>,
    #[prost(uint32, optional, tag = "19")]
    pub avg_auth_time: Option<u32>,
    #[prost(uint32, optional, tag = "20")]
    pub avg_session_mins: Option<u32>,
    #[prost(uint32, optional, tag = "21")]
    pub max_auth_time: Option<u32>,
    #[prost(uint32, optional, tag = "22")]
    pub max_session_mins: Option<u32>,
    #[prost(uint64, optional, tag = "23")]
    pub auth_failures: Option<u64>,
    #[prost(uint64, optional, tag = "24")]
    pub total_sessions_closed: Option<u64>,
    #[prost(uint64, optional, tag = "25")]
    pub total_auth_failures: Option<u64>,
    /// Absent in builds without latency figures.
    #[prost(uint64, optional, tag = "26")]
    pub latency_median_total: Option<u64>,
    #[prost(uint64, optional, tag = "27")]
    pub latency_rms_total: Option<u64>,
    #[prost(uint64, optional, tag = "28")]
    pub latency_sample_count: Option<u64>,
}
