//! Metrics of the IPC socket.

use telemetry::{Counter, Kind, Registry};

use super::{Metrics, declare};

declare! {
    IPC_REQUESTS = "ocserv_agent_ipc_requests_total", Kind::Counter, ["reason"],
        "Valid requests on the IPC socket.";
    IPC_ERRORS = "ocserv_agent_ipc_errors_total", Kind::Counter, ["kind"],
        "Failed connections on the IPC socket.";
    IPC_REJECTED_PEERS = "ocserv_agent_ipc_rejected_peers_total", Kind::Counter, [],
        "Connections on the IPC socket by users of the system that are not in ipc.allowed_uids.";
}

/// The series of the IPC socket, looked up once: every login touches them.
pub(super) struct IpcSeries {
    logins: Counter,
    rejected_peers: Counter,
    overloaded: Counter,
    bad_requests: Counter,
    accept_errors: Counter,
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
}

impl IpcSeries {
    pub(super) fn register(registry: &Registry) -> Self {
        let errors = |kind: &'static str| registry.counter(&IPC_ERRORS, &[kind.into()]);
        Self {
            logins: registry.counter(&IPC_REQUESTS, &["connect".into()]),
            rejected_peers: registry.counter(&IPC_REJECTED_PEERS, &[]),
            overloaded: errors("overloaded"),
            bad_requests: errors("bad_request"),
            accept_errors: errors("accept"),
        }
    }
}

impl Metrics {
    /// Counts a valid login request.
    pub(crate) fn ipc_login(&self) {
        self.ipc.logins.increment(1);
    }

    /// Counts another valid request.
    pub(crate) fn ipc_request(&self, reason: &'static str) {
        self.registry
            .counter(&IPC_REQUESTS, &[reason.into()])
            .increment(1);
    }

    /// Counts a failed connection.
    pub(crate) fn ipc_error(&self, error: IpcError) {
        match error {
            IpcError::Overloaded => self.ipc.overloaded.increment(1),
            IpcError::BadRequest => self.ipc.bad_requests.increment(1),
            IpcError::Accept => self.ipc.accept_errors.increment(1),
        }
    }

    /// Counts a peer that is not in `ipc.allowed_uids`.
    pub(crate) fn ipc_peer_rejected(&self) {
        self.ipc.rejected_peers.increment(1);
    }
}
