//! A portal in this process that replies, hangs or closes connections as a test tells it.
//!
//! It serves gRPC on plain HTTP/2, so that it can send what no gRPC library would: a reply without
//! a message, a message of garbage, half a message. It has its own runtime; a test need not be
//! async.
//!
//! ```no_run
//! use testkit::pki::Pki;
//! use testkit::portal_double::{PortalDouble, Reply};
//!
//! # let directory = std::path::Path::new("/tmp");
//! let pki = Pki::create(directory).unwrap();
//! let portal = PortalDouble::on_loopback(&pki.portal().unwrap()).unwrap();
//! portal.on_check(Reply::allow());
//! portal.on_check_of("mallory", Reply::deny("not on the list"));
//! // … an agent connects to portal.uri() …
//! assert_eq!(portal.checks().len(), 0);
//! ```

mod accept_mode;
mod actions;
mod connection;
mod control_stream;
mod reply;
mod response;
mod services;
mod state;
mod stream_state;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The messages of the control stream.
pub use ocserv_agent_proto::agent::v1 as agent_api;

pub use accept_mode::AcceptMode;
pub use reply::{Acknowledgement, Reply};
pub use state::PortalEvent;

use crate::lab::{Lab, Node, PORTAL};
use crate::mtls;
use crate::pki::Issued;
use crate::wait::{self, WaitTimeout};
use state::State;

type Binder = Box<dyn Fn(Option<SocketAddr>) -> io::Result<TcpListener> + Send>;

/// The double. It allows every login until it is told otherwise; dropping it stops it.
pub struct PortalDouble {
    state: Arc<State>,
    address: SocketAddr,
    listener: Mutex<Listener>,
    runtime: Option<Runtime>,
}

/// How the double listens, and the means to stop.
struct Listener {
    bind: Binder,
    stop: Option<CancellationToken>,
}

impl PortalDouble {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot listen or the files cannot be read.
    pub fn on_loopback(identity: &Issued) -> io::Result<Self> {
        Self::start(
            identity,
            Box::new(|again| TcpListener::bind(again.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))))),
        )
    }

    /// Listens at the address of the portal of a lab.
    ///
    /// # Errors
    /// As [`Self::on_loopback`].
    pub fn in_lab(lab: &Lab, identity: &Issued) -> io::Result<Self> {
        let address = PORTAL.parse().map_err(io::Error::other)?;
        let bind = lab.binder(Node::Portal, address);
        Self::start(identity, Box::new(move |_| bind()))
    }

    fn start(identity: &Issued, bind: Binder) -> io::Result<Self> {
        let listener = bind(None)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("portal-double")
            .enable_all()
            .build()?;
        let state = Arc::new(State::new(mtls::server(identity)?));
        let double = Self {
            state,
            address,
            listener: Mutex::new(Listener { bind, stop: None }),
            runtime: Some(runtime),
        };
        double.listen_on(listener)?;
        Ok(double)
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its address as a URI, for `portal.address`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Sets the reply to every CheckPolicy, except for users with a reply of their own.
    pub fn on_check(&self, reply: Reply<CheckPolicyResponse>) {
        self.state.replies().check = reply;
    }

    /// Sets the reply to CheckPolicy for one user.
    pub fn on_check_of(&self, user: &str, reply: Reply<CheckPolicyResponse>) {
        self.state.replies().check_of.insert(user.to_owned(), reply);
    }

    /// Sets the reply to every ValidateSession.
    pub fn on_validate(&self, reply: Reply<ValidateSessionResponse>) {
        self.state.replies().validate = reply;
    }

    /// Sets the reply to every event.
    pub fn on_event(&self, reply: Reply<Acknowledgement>) {
        self.state.replies().event = reply;
    }

    /// Sets a delay before each reply.
    pub fn delay(&self, delay: Duration) {
        self.state.replies().delay = delay;
    }

    /// Sets the treatment of new connections; open ones are not affected.
    pub fn set_accept_mode(&self, mode: AcceptMode) {
        *self.state.accept_mode() = mode;
    }

    /// Sets the certificate, and the authority that is trusted, for new connections.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn set_identity(&self, identity: &Issued) -> io::Result<()> {
        self.state.set_tls(mtls::server(identity)?);
        Ok(())
    }

    /// Stops listening and closes every connection, as when a portal is killed.
    ///
    /// The port is free when this returns.
    pub fn stop(&self) {
        if let Some(stop) = self.listener().stop.take() {
            stop.cancel();
        }
        // The accept loop owns the socket and closes it when it ends.
        let _ = wait::until("the listener to be closed", wait::BOUND, || {
            (!self.state.is_listening()).then_some(())
        });
        self.cut_connections();
    }

    /// Listens again at the same address after [`Self::stop`].
    ///
    /// # Errors
    /// When it cannot.
    pub fn resume(&self) -> io::Result<()> {
        self.stop();
        let listener = (self.listener().bind)(Some(self.address))?;
        self.listen_on(listener)
    }

    /// Closes every connection and keeps listening.
    pub fn cut_connections(&self) {
        self.state.cut();
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.open_connections()
    }

    /// Returns the errors of failed handshakes, in order.
    #[must_use]
    pub fn handshake_failures(&self) -> Vec<String> {
        self.state.received().handshake_failures.clone()
    }

    /// Returns the received CheckPolicy calls, in order.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckPolicyRequest> {
        self.state.received().checks.clone()
    }

    /// Returns the received CheckPolicy calls for one user.
    #[must_use]
    pub fn checks_of(&self, user: &str) -> Vec<CheckPolicyRequest> {
        self.checks()
            .into_iter()
            .filter(|check| check.username == user)
            .collect()
    }

    /// Returns the received ValidateSession calls, in order.
    #[must_use]
    pub fn validations(&self) -> Vec<ValidateSessionRequest> {
        self.state.received().validations.clone()
    }

    /// Returns the received events, in order and with repetitions.
    #[must_use]
    pub fn events(&self) -> Vec<PortalEvent> {
        self.state.received().events.clone()
    }

    /// Clears the received calls.
    pub fn clear_received(&self) {
        *self.state.received() = state::Received::default();
    }

    /// Waits for `count` CheckPolicy calls.
    ///
    /// # Errors
    /// When they have not been received within `bound`.
    pub fn wait_for_checks(
        &self,
        count: usize,
        bound: Duration,
    ) -> Result<Vec<CheckPolicyRequest>, WaitTimeout> {
        wait::until(&format!("{count} policy checks"), bound, || {
            let checks = self.checks();
            (checks.len() >= count).then_some(checks)
        })
    }

    /// Waits for an event that `wanted` accepts; `what` describes it in the error.
    ///
    /// # Errors
    /// When it has not been received within `bound`.
    pub fn wait_for_event(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&PortalEvent) -> bool,
    ) -> Result<PortalEvent, WaitTimeout> {
        wait::until(what, bound, || {
            self.events().into_iter().find(|event| wanted(event))
        })
    }

    fn listen_on(&self, listener: TcpListener) -> io::Result<()> {
        let Some(runtime) = &self.runtime else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        listener.set_nonblocking(true)?;
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = CancellationToken::new();
        self.listener().stop = Some(stop.clone());
        connection::listen(Arc::clone(&self.state), listener, stop);
        drop(entered);
        Ok(())
    }

    fn listener(&self) -> MutexGuard<'_, Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PortalDouble {
    fn drop(&mut self) {
        self.cut_connections();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
