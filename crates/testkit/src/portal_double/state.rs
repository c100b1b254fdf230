//! The double's replies and the calls that it has received.

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

use super::accept_mode::AcceptMode;
use super::reply::{Acknowledgement, Reply};
use super::stream_state::ControlStreams;

/// A received event.
#[derive(Debug, Clone, PartialEq)]
pub enum PortalEvent {
    /// A session was connected.
    Connect(ReportConnectRequest),
    /// A session was disconnected.
    Disconnect(ReportDisconnectRequest),
    /// A session was updated.
    Update(ReportSessionUpdateRequest),
}

impl PortalEvent {
    /// Returns the user of the session.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Connect(event) => &event.username,
            Self::Disconnect(event) => &event.username,
            Self::Update(event) => &event.username,
        }
    }

    /// Returns ocserv's ID of the session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        match self {
            Self::Connect(event) => &event.session_id,
            Self::Disconnect(event) => &event.session_id,
            Self::Update(event) => &event.session_id,
        }
    }

    /// Returns a value of its metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        match self {
            Self::Connect(event) => event.metadata.get(key).map(String::as_str),
            Self::Disconnect(event) => event.metadata.get(key).map(String::as_str),
            Self::Update(event) => event.metadata.get(key).map(String::as_str),
        }
    }
}

/// The reply to each kind of call.
pub(super) struct Replies {
    pub(super) check: Reply<CheckPolicyResponse>,
    pub(super) check_of: HashMap<String, Reply<CheckPolicyResponse>>,
    pub(super) validate: Reply<ValidateSessionResponse>,
    pub(super) event: Reply<Acknowledgement>,
    pub(super) delay: Duration,
}

/// What was received, in order.
#[derive(Default)]
pub(super) struct Received {
    pub(super) checks: Vec<CheckPolicyRequest>,
    pub(super) validations: Vec<ValidateSessionRequest>,
    pub(super) events: Vec<PortalEvent>,
    pub(super) handshake_failures: Vec<String>,
}

pub(super) struct State {
    replies: Mutex<Replies>,
    received: Mutex<Received>,
    accept_mode: Mutex<AcceptMode>,
    tls: Mutex<Arc<ServerConfig>>,
    control: Mutex<ControlStreams>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    next: AtomicU64,
    listeners: AtomicUsize,
}

impl State {
    pub(super) fn new(tls: Arc<ServerConfig>) -> Self {
        Self {
            replies: Mutex::new(Replies {
                check: Reply::allow(),
                check_of: HashMap::new(),
                validate: Reply::valid(),
                event: Reply::acknowledge(true),
                delay: Duration::ZERO,
            }),
            received: Mutex::default(),
            accept_mode: Mutex::new(AcceptMode::Serve),
            tls: Mutex::new(tls),
            control: Mutex::default(),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            listeners: AtomicUsize::new(0),
        }
    }

    pub(super) fn replies(&self) -> MutexGuard<'_, Replies> {
        lock(&self.replies)
    }

    pub(super) fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }

    pub(super) fn control(&self) -> MutexGuard<'_, ControlStreams> {
        lock(&self.control)
    }

    pub(super) fn accept_mode(&self) -> MutexGuard<'_, AcceptMode> {
        lock(&self.accept_mode)
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

    /// Registers a connection by a second handle of its socket.
    pub(super) fn connection_opened(&self, socket: TcpStream) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.connections).insert(id, socket);
        id
    }

    pub(super) fn connection_closed(&self, id: u64) {
        lock(&self.connections).remove(&id);
    }

    /// Closes every connection while it is in use.
    pub(super) fn cut(&self) {
        for (_, socket) in lock(&self.connections).drain() {
            // One that the peer has closed needs nothing more.
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
