//! A portal in this process that does what a test says: answers, lies, hangs, hangs up.
//!
//! It speaks HTTP/2 by hand, so that it can also say what no gRPC library would: a reply without a message, a message of
//! garbage, half a message. It has a runtime of its own; a test need not be async.
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

mod connection;
mod reply;
mod services;
mod state;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub use connection::Door;
pub use reply::{Acknowledgement, Reply};
pub use state::PortalEvent;

use crate::lab::{Lab, PORTAL, Place};
use crate::mtls;
use crate::pki::Issued;
use crate::wait::{self, Late};
use state::State;

type Binder = Box<dyn Fn(Option<SocketAddr>) -> io::Result<TcpListener> + Send>;

/// The double. It allows everyone until it is told otherwise; dropping it ends it.
pub struct PortalDouble {
    state: Arc<State>,
    address: SocketAddr,
    door: Mutex<Listening>,
    runtime: Option<Runtime>,
}

struct Listening {
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

    /// Listens where a lab's agent looks for its portal.
    ///
    /// # Errors
    /// As [`Self::on_loopback`].
    pub fn in_lab(lab: &Lab, identity: &Issued) -> io::Result<Self> {
        let address = PORTAL.parse().map_err(io::Error::other)?;
        let bind = lab.binder(Place::Portal, address);
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
            door: Mutex::new(Listening { bind, stop: None }),
            runtime: Some(runtime),
        };
        double.listen_on(listener)?;
        Ok(double)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as an agent's `portal.address`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What every CheckPolicy gets from now on, those of single users excepted.
    pub fn on_check(&self, reply: Reply<CheckPolicyResponse>) {
        self.state.script().check = reply;
    }

    /// What CheckPolicy for one user gets from now on.
    pub fn on_check_of(&self, user: &str, reply: Reply<CheckPolicyResponse>) {
        self.state.script().check_of.insert(user.to_owned(), reply);
    }

    /// What every ValidateSession gets from now on.
    pub fn on_validate(&self, reply: Reply<ValidateSessionResponse>) {
        self.state.script().validate = reply;
    }

    /// What every event gets from now on.
    pub fn on_event(&self, reply: Reply<Acknowledgement>) {
        self.state.script().event = reply;
    }

    /// Lets this much time pass before each reply from now on.
    pub fn delay(&self, delay: Duration) {
        self.state.script().delay = delay;
    }

    /// What happens to new connections from now on; those that are there are left alone.
    pub fn set_door(&self, door: Door) {
        *self.state.door() = door;
    }

    /// Shows another certificate, and trusts another authority, on new connections from now on.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn set_identity(&self, identity: &Issued) -> io::Result<()> {
        self.state.set_tls(mtls::server(identity)?);
        Ok(())
    }

    /// Stops listening and cuts every connection: as a portal that is killed.
    ///
    /// The port is free when this returns.
    pub fn stop(&self) {
        if let Some(stop) = self.listening().stop.take() {
            stop.cancel();
        }
        // The accept loop owns the listener and drops it when it ends.
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
        let listener = (self.listening().bind)(Some(self.address))?;
        self.listen_on(listener)
    }

    /// Cuts every connection and goes on listening.
    pub fn cut_connections(&self) {
        self.state.cut();
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.open_connections()
    }

    /// Why handshakes failed, in order.
    #[must_use]
    pub fn handshake_failures(&self) -> Vec<String> {
        self.state.record().handshake_failures.clone()
    }

    /// The CheckPolicy calls that have arrived, in order.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckPolicyRequest> {
        self.state.record().checks.clone()
    }

    /// The CheckPolicy calls for one user.
    #[must_use]
    pub fn checks_of(&self, user: &str) -> Vec<CheckPolicyRequest> {
        self.checks()
            .into_iter()
            .filter(|check| check.username == user)
            .collect()
    }

    /// The ValidateSession calls that have arrived, in order.
    #[must_use]
    pub fn validations(&self) -> Vec<ValidateSessionRequest> {
        self.state.record().validations.clone()
    }

    /// The events that have arrived, in order, each as often as it came.
    #[must_use]
    pub fn events(&self) -> Vec<PortalEvent> {
        self.state.record().events.clone()
    }

    /// Forgets what has arrived.
    pub fn forget(&self) {
        *self.state.record() = state::Record::default();
    }

    /// Waits until so many CheckPolicy calls have arrived.
    ///
    /// # Errors
    /// When they do not come within the bound.
    pub fn wait_for_checks(&self, count: usize, bound: Duration) -> Result<Vec<CheckPolicyRequest>, Late> {
        wait::until(&format!("{count} policy checks"), bound, || {
            let checks = self.checks();
            (checks.len() >= count).then_some(checks)
        })
    }

    /// Waits for an event that `wanted` accepts; `what` names it in the error.
    ///
    /// # Errors
    /// When it does not come within the bound.
    pub fn wait_for_event(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&PortalEvent) -> bool,
    ) -> Result<PortalEvent, Late> {
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
        self.listening().stop = Some(stop.clone());
        connection::listen(Arc::clone(&self.state), listener, stop);
        drop(entered);
        Ok(())
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
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
