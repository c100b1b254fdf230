//! What the double has been told and what it has seen.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ReportConnectRequest, ReportDisconnectRequest,
    ReportSessionUpdateRequest, ValidateSessionRequest, ValidateSessionResponse,
};
use rustls::ServerConfig;

use super::connection::Door;
use super::reply::{Acknowledgement, Reply};

/// An event that has arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum PortalEvent {
    /// A session began.
    Connect(ReportConnectRequest),
    /// A session ended.
    Disconnect(ReportDisconnectRequest),
    /// A session goes on.
    Update(ReportSessionUpdateRequest),
}

impl PortalEvent {
    /// Whose session.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Connect(event) => &event.username,
            Self::Disconnect(event) => &event.username,
            Self::Update(event) => &event.username,
        }
    }

    /// A value of its metadata; an update has none.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        match self {
            Self::Connect(event) => event.metadata.get(key).map(String::as_str),
            Self::Disconnect(event) => event.metadata.get(key).map(String::as_str),
            Self::Update(_) => None,
        }
    }
}

/// What to say.
pub(super) struct Script {
    pub(super) check: Reply<CheckPolicyResponse>,
    pub(super) check_of: HashMap<String, Reply<CheckPolicyResponse>>,
    pub(super) validate: Reply<ValidateSessionResponse>,
    pub(super) event: Reply<Acknowledgement>,
    pub(super) delay: Duration,
}

/// What has arrived.
#[derive(Default)]
pub(super) struct Record {
    pub(super) checks: Vec<CheckPolicyRequest>,
    pub(super) validations: Vec<ValidateSessionRequest>,
    pub(super) events: Vec<PortalEvent>,
    pub(super) handshake_failures: Vec<String>,
}

pub(super) struct State {
    script: Mutex<Script>,
    record: Mutex<Record>,
    door: Mutex<Door>,
    tls: Mutex<Arc<ServerConfig>>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    next: AtomicU64,
    listeners: AtomicUsize,
}

impl State {
    pub(super) fn new(tls: Arc<ServerConfig>) -> Self {
        Self {
            script: Mutex::new(Script {
                check: Reply::allow(),
                check_of: HashMap::new(),
                validate: Reply::valid(),
                event: Reply::acknowledge(true),
                delay: Duration::ZERO,
            }),
            record: Mutex::default(),
            door: Mutex::new(Door::Open),
            tls: Mutex::new(tls),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            listeners: AtomicUsize::new(0),
        }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    pub(super) fn door(&self) -> MutexGuard<'_, Door> {
        lock(&self.door)
    }

    pub(super) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&lock(&self.tls))
    }

    pub(super) fn set_tls(&self, tls: Arc<ServerConfig>) {
        *lock(&self.tls) = tls;
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listeners.load(Ordering::SeqCst) > 0
    }

    pub(super) fn listener_opened(&self) {
        self.listeners.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn listener_closed(&self) {
        self.listeners.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn open_connections(&self) -> usize {
        lock(&self.connections).len()
    }

    /// Notes a connection by a second handle on its socket.
    pub(super) fn connection_opened(&self, socket: TcpStream) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections).insert(id, socket);
        id
    }

    pub(super) fn connection_closed(&self, id: u64) {
        lock(&self.connections).remove(&id);
    }

    /// Ends every connection under the feet of whoever uses it.
    pub(super) fn cut(&self) {
        for (_, socket) in lock(&self.connections).drain() {
            // One that the peer has closed is as cut as it can be.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn cut_one(&self, id: u64) {
        if let Some(socket) = lock(&self.connections).remove(&id) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
