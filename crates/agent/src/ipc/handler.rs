//! Handles one connection: authenticates the peer, reads the request, calls one operation,
//! responds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use ocserv::Ocserv;
use ocserv_agent_model::{DenyCode, Login, one_line};
use resilience::ConnectionLimiter;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::audit::{audit_rejection, audit_too_late};
use super::confirmation::{Confirmation, WrittenAllow};
use super::connection::Connection;
use super::deadline::Times;
use super::frames::{ReadError, read_frame, write, write_bounded};
use super::operator::{OperatorRequest, OperatorRequests};
use super::request::{Command, parse_request};
use super::response;
use super::warnings::Warnings;
use crate::clock;
use crate::live::Live;
use crate::metrics::{IpcError, IpcMetrics, Metrics};
use crate::operations::authorize_login::LoginAuthorizer;
use crate::operations::list_decisions::RecentDecisions;
use crate::operations::list_events::EventQueue;
use crate::operations::record_session::SessionRecorder;
use crate::operations::register_sessions::{PendingSession, SessionRegistrar};
use crate::operations::shared_outbox::Appended;

/// Longest time from the accept to a complete request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time to drain what a rejected peer still sends, so that it can read its response.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);
/// Most rejected peers that are drained at once.
const MAX_DRAINS: usize = 64;
/// The longest problem in a warning, in characters.
const MAX_PROBLEM: usize = 256;

/// The settings that a reload may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DynamicSettings {
    /// Longest time from the accept of a login to its response.
    pub deadline: Duration,
    /// The uids whose requests are served.
    pub allowed_uids: Vec<u32>,
}

/// The operations and services that the handler calls.
pub(crate) struct Dependencies {
    pub authorizer: LoginAuthorizer,
    pub recorder: Arc<SessionRecorder>,
    /// Gives the connect times of sessions.
    pub ocserv: Ocserv,
    pub recent: RecentDecisions,
    /// `None` without a portal.
    pub events: Option<EventQueue>,
    pub metrics: Metrics,
    /// The process that may ask whoever its user is: the agent, for its pings.
    pub own_pid: Option<i32>,
    /// The runtime of work that no login waits for.
    pub background: Handle,
}

/// Handles connections; shared by all of them.
pub(super) struct RequestHandler {
    authorizer: LoginAuthorizer,
    recorder: Arc<SessionRecorder>,
    registrar: SessionRegistrar,
    operators: OperatorRequests,
    metrics: IpcMetrics,
    own_pid: Option<i32>,
    background: Handle,
    settings: Live<DynamicSettings>,
    allows: mpsc::Sender<WrittenAllow>,
    silent: ConnectionLimiter<()>,
    logins: Semaphore,
    /// Reports that wait for the disk.
    reports: Semaphore,
    drains: Semaphore,
    warnings: Warnings,
}

/// The outcome of reading a request.
enum Received<'a> {
    /// The peer closed without a request.
    Nothing,
    /// A login, its deadlines and its permit.
    Login(Arc<Login>, Times, SemaphorePermit<'a>),
    /// A request of an operator and its permit.
    Operator(OperatorRequest, SemaphorePermit<'a>),
    /// The end of a session, which is to be on disk before the answer, and until when.
    Disconnect(Option<Appended>, Instant),
    /// A request that has no other answer.
    Acknowledged,
    /// The request is rejected; some of it may be unread.
    Rejected(ipc::Response),
}

impl RequestHandler {
    /// Creates a handler for at most `max_logins` logins in progress, and as many connections
    /// without a request; and the task that registers the sessions of its allows.
    pub(super) fn new(
        dependencies: Dependencies,
        settings: Live<DynamicSettings>,
        max_logins: usize,
    ) -> (Self, Confirmation) {
        let Dependencies {
            authorizer,
            recorder,
            ocserv,
            recent,
            events,
            metrics,
            own_pid,
            background,
        } = dependencies;
        let registrar = SessionRegistrar::new(Arc::clone(&recorder), ocserv);
        let (confirmation, allows) = Confirmation::new(Arc::clone(&recorder), registrar.clone(), max_logins);
        let handler = Self {
            authorizer,
            recorder,
            registrar,
            operators: OperatorRequests::new(recent, events, background.clone()),
            metrics: IpcMetrics::new(metrics),
            own_pid,
            background,
            settings,
            allows,
            silent: ConnectionLimiter::new(max_logins),
            logins: Semaphore::new(max_logins),
            reports: Semaphore::new(max_logins),
            drains: Semaphore::new(MAX_DRAINS),
            warnings: Warnings::default(),
        };
        (handler, confirmation)
    }

    /// The runtime of work that no login waits for.
    pub(super) fn background(&self) -> &Handle {
        &self.background
    }

    /// Handles one connection from its accept to its end. A panic denies this login and no other.
    pub(super) async fn handle(self: Arc<Self>, mut connection: Connection) {
        let session = AssertUnwindSafe(self.serve(&mut connection)).catch_unwind().await;
        match session {
            Ok(Some(session)) => self.confirm(WrittenAllow {
                connection,
                at: clock::now(),
                session,
            }),
            Ok(None) => {}
            Err(_) => {
                self.metrics.error(IpcError::Panic);
                tracing::error!("a request on the IPC socket caused a panic: it is denied");
                let response = response::rejection(DenyCode::Outage, "the agent failed on this request");
                self.reject(&mut connection, &response).await;
            }
        }
    }

    /// Reads the request and responds; returns the session of an allow that is written.
    async fn serve(&self, connection: &mut Connection) -> Option<PendingSession> {
        let arrived = clock::now();
        match self.receive(connection, arrived).await {
            Received::Nothing => {}
            Received::Login(login, times, _permit) => {
                let decided = self.authorizer.authorize(login, arrived, times.decide_by).await;
                // Only an agent that was stopped meanwhile is as late as that.
                let written = times.is_awaited()
                    && write_bounded(connection, &response::decision(decided.decision())).await;
                return self.authorizer.finish(decided, written);
            }
            Received::Operator(request, _permit) => {
                let response = self.operators.answer(request).await;
                write_bounded(connection, &response).await;
            }
            Received::Disconnect(appended, by) => {
                self.await_durable(appended, by).await;
                write_bounded(connection, &response::acknowledged()).await;
            }
            Received::Acknowledged => {
                write_bounded(connection, &response::acknowledged()).await;
            }
            Received::Rejected(response) => self.reject(connection, &response).await,
        }
        None
    }

    /// Waits until the end of a session is on disk. A disk that is slow or does not work delays the
    /// answer no longer than until `by`: the event waits in memory then.
    async fn await_durable(&self, appended: Option<Appended>, by: Instant) {
        let Some(appended) = appended else { return };
        // As many wait as logins may: each holds a connection.
        let stored = match self.reports.try_acquire() {
            Ok(_permit) => appended.durable(by).await.map_err(|error| error.to_string()),
            Err(_) => Err("more than ipc.max_connections wait for the disk".to_owned()),
        };
        if let Err(error) = stored {
            self.metrics.error(IpcError::NotDurable);
            if let Some(suppressed) = self.warnings.durable.admit(clock::now().into_std()) {
                tracing::error!(%error, suppressed, "answered a disconnect-script whose report is in memory only");
            }
        }
    }

    /// Queues an allow for the confirmation task. When the queue is full, registers the session at
    /// once, without ocserv's connect time.
    fn confirm(&self, allow: WrittenAllow) {
        if let Err(TrySendError::Full(allow) | TrySendError::Closed(allow)) = self.allows.try_send(allow) {
            self.registrar.register_without_time(allow.session);
        }
    }

    async fn receive(&self, connection: &mut Connection, arrived: Instant) -> Received<'_> {
        let settings = self.settings.current();
        if !self.is_allowed(connection, &settings) {
            let reason = "this uid is not in ipc.allowed_uids";
            return Received::Rejected(response::rejection(DenyCode::PeerRefused, reason));
        }
        match self.read(connection, arrived, &settings).await {
            Ok(request) => self.dispatch(&request, arrived, &settings),
            Err(ReadError::Closed) => Received::Nothing,
            Err(ReadError::Evicted) => Received::Rejected(self.overloaded()),
            Err(ReadError::Invalid(problem)) => Received::Rejected(self.bad_request(&problem)),
        }
    }

    fn dispatch(&self, request: &ipc::Request, arrived: Instant, settings: &DynamicSettings) -> Received<'_> {
        let command = match parse_request(request) {
            Ok(command) => command,
            Err(error) => return self.reject_login(request, self.bad_request(&error.to_string()), arrived),
        };
        match command {
            Command::Connect(login) => {
                let Ok(times) = Times::of(request, arrived, settings.deadline) else {
                    audit_too_late(&login, arrived);
                    return Received::Rejected(self.too_late());
                };
                let Ok(permit) = self.logins.try_acquire() else {
                    return self.reject_login(request, self.overloaded(), arrived);
                };
                self.metrics.login();
                Received::Login(login, times, permit)
            }
            // Recorded without a permit: ocserv does not repeat a rejected report.
            Command::Disconnect(report) => {
                self.metrics.request("disconnect");
                let appended = self.recorder.session_ended(report);
                let by = Times::of(request, arrived, settings.deadline).map(|times| times.decide_by);
                Received::Disconnect(appended, by.unwrap_or(arrived))
            }
            Command::HostUpdate => {
                self.metrics.request("host-update");
                Received::Acknowledged
            }
            // Counts nowhere: it only shows that this thread serves.
            Command::Ping => Received::Acknowledged,
            Command::Decisions(user) => self.operator(OperatorRequest::Decisions(user)),
            Command::Events(request) => self.operator(OperatorRequest::Events(request)),
        }
    }

    fn operator(&self, request: OperatorRequest) -> Received<'_> {
        match self.operators.admit() {
            Some(permit) => Received::Operator(request, permit),
            None => Received::Rejected(self.overloaded()),
        }
    }

    fn is_allowed(&self, connection: &Connection, settings: &DynamicSettings) -> bool {
        let uid = match connection.peer() {
            Ok(peer) if settings.allowed_uids.contains(&peer.uid()) => return true,
            Ok(peer) if self.own_pid == Some(peer.pid()) => return true,
            peer => peer.ok().map(|peer| peer.uid()),
        };
        self.metrics.peer_rejected();
        if let Some(suppressed) = self.warnings.peer.admit(clock::now().into_std()) {
            tracing::warn!(
                uid,
                suppressed,
                "rejected a peer on the IPC socket that is not in ipc.allowed_uids"
            );
        }
        false
    }

    async fn read(
        &self,
        connection: &mut Connection,
        arrived: Instant,
        settings: &DynamicSettings,
    ) -> Result<ipc::Request, ReadError> {
        let (slot, evicted_another) = self.silent.register(());
        if evicted_another && let Some(suppressed) = self.warnings.overload.admit(clock::now().into_std()) {
            tracing::warn!(
                suppressed,
                "too many connections without a request on the IPC socket: the oldest is evicted"
            );
        }
        let limit = REQUEST_TIMEOUT.min(settings.deadline);
        let body = tokio::select! {
            biased;
            body = timeout_at(arrived + limit, read_frame(connection)) => body,
            () = slot.evicted() => return Err(ReadError::Evicted),
        };
        let Ok(body) = body else {
            return Err(ReadError::Invalid(format!(
                "no complete request within {limit:?}"
            )));
        };
        ipc::Request::from_json(&body?).map_err(|error| ReadError::Invalid(error.to_string()))
    }

    /// Writes the response to a peer whose request may be unread, and drains the connection, so
    /// that the peer can read the response. Closes at once beyond [`MAX_DRAINS`].
    async fn reject(&self, connection: &mut Connection, response: &ipc::Response) {
        let drain = async {
            if write(connection, response).await.is_err() {
                return;
            }
            let Ok(_permit) = self.drains.try_acquire() else {
                return;
            };
            let mut sink = Vec::with_capacity(4096);
            while matches!(connection.read(&mut sink).await, Ok(1..)) {
                sink.clear();
            }
        };
        let _closed_or_late = timeout(DRAIN_TIMEOUT, drain).await;
    }

    /// Responds with a rejection and audits it if the request is a login.
    fn reject_login(
        &self,
        request: &ipc::Request,
        response: ipc::Response,
        arrived: Instant,
    ) -> Received<'_> {
        if request.reason == "connect" {
            audit_rejection(request, &response, arrived);
        }
        Received::Rejected(response)
    }

    fn overloaded(&self) -> ipc::Response {
        self.metrics.error(IpcError::Overloaded);
        if let Some(suppressed) = self.warnings.overload.admit(clock::now().into_std()) {
            tracing::warn!(suppressed, "rejected a request on the IPC socket: overloaded");
        }
        response::rejection(
            DenyCode::Overloaded,
            "the agent has too many requests in progress",
        )
    }

    fn too_late(&self) -> ipc::Response {
        self.metrics.error(IpcError::TooLate);
        if let Some(suppressed) = self.warnings.late.admit(clock::now().into_std()) {
            tracing::warn!(
                suppressed,
                "read a login after its helper's deadline: ON_AGENT_DOWN applies"
            );
        }
        response::rejection(DenyCode::Outage, "the helper's deadline has passed")
    }

    fn bad_request(&self, problem: &str) -> ipc::Response {
        self.metrics.error(IpcError::BadRequest);
        if let Some(suppressed) = self.warnings.request.admit(clock::now().into_std()) {
            let problem = one_line(problem, MAX_PROBLEM);
            tracing::warn!(
                suppressed,
                problem,
                "rejected an invalid request on the IPC socket"
            );
        }
        response::rejection(DenyCode::BadRequest, problem)
    }

    /// Counts and logs a failed accept.
    pub(super) fn accept_failed(&self, error: &std::io::Error) {
        self.metrics.error(IpcError::Accept);
        if let Some(suppressed) = self.warnings.accept.admit(clock::now().into_std()) {
            tracing::error!(%error, suppressed, "could not accept a connection on the IPC socket");
        }
    }
}
