//! Metrics of the IPC socket.

use telemetry::{Counter, Kind};

use super::handle::{Metrics, declare};

declare! {
    IPC_REQUESTS = "ocserv_agent_ipc_requests_total", Kind::Counter, ["reason"],
        "Valid requests on the IPC socket.";
    IPC_ERRORS = "ocserv_agent_ipc_errors_total", Kind::Counter, ["kind"],
        "Failed connections on the IPC socket.";
    IPC_REJECTED_PEERS = "ocserv_agent_ipc_rejected_peers_total", Kind::Counter, [],
        "Connections on the IPC socket by users of the system that are not in ipc.allowed_uids.";
}

/// Counts requests on the IPC socket. Its series are looked up once, because every login counts.
pub(crate) struct IpcMetrics {
    metrics: Metrics,
    logins: Counter,
    rejected_peers: Counter,
    overloaded: Counter,
    bad_requests: Counter,
    accept_errors: Counter,
    late: Counter,
    panics: Counter,
    not_durable: Counter,
}

/// Why a connection on the IPC socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpcError {
    /// Too many connections or logins.
    Overloaded,
    /// A late, torn or invalid request.
    BadRequest,
    /// The kernel returned an error to accept(2).
    Accept,
    /// A login that was read after its helper's deadline.
    TooLate,
    /// The handler of a connection panicked.
    Panic,
    /// A report was answered before it was on disk.
    NotDurable,
}

impl IpcMetrics {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let registry = &metrics.registry;
        let errors = |kind: &'static str| registry.counter(&IPC_ERRORS, &[kind.into()]);
        Self {
            logins: registry.counter(&IPC_REQUESTS, &["connect".into()]),
            rejected_peers: registry.counter(&IPC_REJECTED_PEERS, &[]),
            overloaded: errors("overloaded"),
            bad_requests: errors("bad_request"),
            accept_errors: errors("accept"),
            late: errors("too_late"),
            panics: errors("panic"),
            not_durable: errors("not_durable"),
            metrics,
        }
    }

    /// Counts a valid login request.
    pub(crate) fn login(&self) {
        self.logins.increment(1);
    }

    /// Counts a valid request that is no login.
    pub(crate) fn request(&self, reason: &'static str) {
        let registry = &self.metrics.registry;
        registry.counter(&IPC_REQUESTS, &[reason.into()]).increment(1);
    }

    /// Counts a failed connection.
    pub(crate) fn error(&self, error: IpcError) {
        match error {
            IpcError::Overloaded => self.overloaded.increment(1),
            IpcError::BadRequest => self.bad_requests.increment(1),
            IpcError::Accept => self.accept_errors.increment(1),
            IpcError::TooLate => self.late.increment(1),
            IpcError::Panic => self.panics.increment(1),
            IpcError::NotDurable => self.not_durable.increment(1),
        }
    }

    /// Counts a peer that is not in `ipc.allowed_uids`.
    pub(crate) fn peer_rejected(&self) {
        self.rejected_peers.increment(1);
    }
}
