//! The decoded server status.

use crate::{text, wire};

/// Server status. `None` means that ocserv did not report it.
///
/// Session figures are updated when a session ends, never while it lasts. "In this period" is since
/// [`last_reset_at`](Self::last_reset_at).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether ocserv accepts connections.
    pub online: Option<bool>,
    /// Pid of the main process.
    pub main_pid: Option<u32>,
    /// Pids of the security modules.
    pub sec_mod_pids: Vec<u32>,
    /// Start of ocserv, in seconds since 1970.
    pub started_at: Option<u64>,
    /// Connections, including those that have not logged in.
    pub connections: Option<u32>,
    /// Cookies; the security modules report them periodically, so the figure lags.
    pub logins: Option<u32>,
    /// TLS sessions stored for resumption.
    pub tls_sessions: Option<u32>,
    /// Banned addresses.
    pub banned_addresses: Option<u32>,
    /// Sessions that ended since the start.
    pub sessions_closed_ever: Option<u64>,
    /// Failed logins since the start; the security modules report them periodically, so the figure
    /// lags.
    pub auth_failures_ever: Option<u64>,
    /// Start of the period, in seconds since 1970.
    pub last_reset_at: Option<u64>,
    /// Sessions that ended in this period.
    pub sessions_closed: Option<u64>,
    /// Sessions ended by `session-timeout` in this period.
    pub session_timeouts: Option<u64>,
    /// Sessions ended by `idle-timeout` in this period.
    pub idle_timeouts: Option<u64>,
    /// Sessions ended by an error in this period.
    pub session_errors: Option<u64>,
    /// Failed logins in this period.
    pub auth_failures: Option<u64>,
    /// Bytes sent by clients in this period, in units of 1000.
    pub kilobytes_in: Option<u64>,
    /// Bytes sent to clients in this period, in units of 1000.
    pub kilobytes_out: Option<u64>,
    /// Smallest MTU in this period, in bytes; 0 before the first session.
    pub min_mtu: Option<u32>,
    /// Largest MTU in this period, in bytes; 0 before the first session.
    pub max_mtu: Option<u32>,
    /// Average duration of a login, in seconds.
    pub average_auth_seconds: Option<u32>,
    /// Longest login, in seconds.
    pub max_auth_seconds: Option<u32>,
    /// Average duration of a session, in minutes.
    pub average_session_minutes: Option<u32>,
    /// Longest session, in minutes.
    pub max_session_minutes: Option<u32>,
    /// Samples of packet latency; only in builds with latency figures.
    pub latency_samples: Option<u64>,
    /// Sum of the median latencies of all samples, in the unit of ocserv's build.
    pub latency_median_total: Option<u64>,
    /// Sum of the root mean squares of the latencies of all samples, in the unit of ocserv's build.
    pub latency_rms_total: Option<u64>,
}

impl From<wire::StatusReply> for Status {
    fn from(reply: wire::StatusReply) -> Self {
        Self {
            online: reply.status,
            main_pid: reply.pid,
            sec_mod_pids: reply.sec_mod_pids,
            started_at: text::epoch(reply.start_time),
            connections: reply.active_clients,
            logins: reply.secmod_client_entries,
            tls_sessions: reply.stored_tls_sessions,
            banned_addresses: reply.banned_ips,
            sessions_closed_ever: reply.total_sessions_closed,
            auth_failures_ever: reply.total_auth_failures,
            last_reset_at: text::epoch(reply.last_reset),
            sessions_closed: reply.sessions_closed,
            session_timeouts: reply.session_timeouts,
            idle_timeouts: reply.session_idle_timeouts,
            session_errors: reply.session_errors,
            auth_failures: reply.auth_failures,
            kilobytes_in: reply.kbytes_in,
            kilobytes_out: reply.kbytes_out,
            min_mtu: reply.min_mtu,
            max_mtu: reply.max_mtu,
            average_auth_seconds: reply.avg_auth_time,
            max_auth_seconds: reply.max_auth_time,
            average_session_minutes: reply.avg_session_mins,
            max_session_minutes: reply.max_session_mins,
            latency_samples: reply.latency_sample_count,
            latency_median_total: reply.latency_median_total,
            latency_rms_total: reply.latency_rms_total,
        }
    }
}
