//! The client's handle and its calls.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Event, Login, OcservId, Username};
use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
use ocserv_agent_proto::vpn::v1::event_service_client::EventServiceClient;
use ocserv_agent_proto::vpn::v1::{ReportConnectResponse, ReportDisconnectResponse, ValidateSessionRequest};
use prost_types::Timestamp;
use resilience::LogLimiter;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Response, Status};

use crate::clock;
use crate::connection_manager::{ConnectionHandle, ConnectionManager, ConnectionState, Purpose};
use crate::control_stream::{ControlSender, ControlStream, Instruction, Register};
use crate::convert::{self, EventReport};
use crate::error::{CheckError, ReportError};
use crate::grpc_service::GrpcService;
use crate::reply::{PolicyReply, SessionValidity};
use crate::settings::{Settings, SettingsError};
use crate::text::one_line;

/// Log lines about invalid answers: this many at once, then one per interval.
const INVALID_ANSWER_BURST: NonZeroU32 = NonZeroU32::new(5).unwrap();
const INVALID_ANSWER_INTERVAL: Duration = Duration::from_secs(10);

/// A handle of the portal; clones share its connections.
#[derive(Clone)]
pub struct Portal {
    settings: Arc<Settings>,
    /// For logins alone: whatever the portal does with other calls, and however few streams it
    /// allows at once, no login waits for them.
    connection: ConnectionHandle,
    /// For everything that no login waits for.
    background: ConnectionHandle,
    invalid_answers: Arc<LogLimiter>,
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("address", &self.settings.address)
            .field("state", &*self.connection.state().borrow())
            .finish_non_exhaustive()
    }
}

impl Portal {
    /// Starts to connect in tasks of `tracker` and returns at once. Reconnects until `token` is
    /// cancelled, which also aborts calls in progress. The connection for logins is served by the
    /// caller's runtime, that for all other calls by `background`.
    ///
    /// # Errors
    /// When the address can never be dialled.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(
        settings: Settings,
        tls: tls::ClientTls,
        tracker: &TaskTracker,
        background: &Handle,
        token: CancellationToken,
    ) -> Result<Self, SettingsError> {
        let settings = Arc::new(settings);
        let start = |purpose, tls, runtime: &Handle, token| {
            ConnectionManager::start(Arc::clone(&settings), purpose, tls, (tracker, runtime), token)
        };
        let background = start(Purpose::Background, tls.clone(), background, token.clone())?;
        let connection = start(Purpose::Logins, tls, &Handle::current(), token)?;
        Ok(Self {
            settings,
            connection,
            background,
            invalid_answers: Arc::new(LogLimiter::new(INVALID_ANSWER_BURST, INVALID_ANSWER_INTERVAL)),
        })
    }

    /// Returns a receiver of the state of the logins' connection and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.connection.state()
    }

    /// Returns a receiver of the state of the connection for all other calls and its changes.
    #[must_use]
    pub fn background_state(&self) -> watch::Receiver<ConnectionState> {
        self.background.state()
    }

    /// Requests new connections that use the current certificates; for use after a reload. The old
    /// ones serve until the new ones are established, and calls in progress finish on them.
    pub fn reconnect(&self) {
        self.connection.rotate();
        self.background.rotate();
    }

    /// Checks whether a login is allowed. Ends by `deadline` and within the configured timeout.
    /// Without a connection it may request an early attempt; see [`crate::ReconnectSettings`].
    /// `now` is sent to the portal as the time of the request.
    ///
    /// # Errors
    /// [`CheckError`] when there is no verdict; see [`CheckError::meaning`].
    pub async fn check_policy(
        &self,
        login: &Login,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<PolicyReply, CheckError> {
        let request = convert::policy_request(login, now);
        let call = async |request| self.auth_client(true).check_policy(request).await;
        let reply = self
            .bounded(deadline, request, call)
            .await
            .and_then(|wire| convert::policy_reply(&wire, &self.settings.limits));
        match &reply {
            Ok(reply) if !reply.ignored.is_empty() => {
                self.warn("portal sent invalid values, ignored", &reply.ignored);
            }
            Err(error @ (CheckError::Invalid(_) | CheckError::Contradiction(_))) => {
                self.warn("invalid CheckPolicy answer", &error.to_string());
            }
            Ok(_) | Err(_) => {}
        }
        reply
    }

    /// Validates a connected session. Never requests an early connection attempt.
    ///
    /// # Errors
    /// [`CheckError`] when there is no reply; an error must not end a session.
    pub async fn validate_session(
        &self,
        username: &Username,
        id: OcservId,
        client_ip: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<SessionValidity, CheckError> {
        let request = ValidateSessionRequest {
            username: username.to_string(),
            session_id: id.to_string(),
            client_ip: client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            request_time: Some(Timestamp::from(now)),
        };
        let call = async |request| self.auth_client(false).validate_session(request).await;
        let validity = self
            .bounded(self.call_deadline(), request, call)
            .await
            .and_then(|wire| convert::session_validity(&wire));
        if let Err(error @ (CheckError::Invalid(_) | CheckError::Contradiction(_))) = &validity {
            self.warn(
                "invalid ValidateSession answer, session continues",
                &error.to_string(),
            );
        }
        validity
    }

    /// Reports an event. `Ok` means that the portal has received it, in this call or an earlier
    /// one; `Some` is the portal's reason to disconnect the session. Never requests an early
    /// connection attempt.
    ///
    /// # Errors
    /// [`ReportError`] when the portal may not have received it; report it again later. Not for an
    /// update that the portal refuses: the next one replaces it.
    pub async fn report_event(&self, event: &Event) -> Result<Option<String>, ReportError> {
        let mut client =
            EventServiceClient::with_origin(self.grpc_service(false), self.settings.address.clone());
        let deadline = self.call_deadline();
        let acknowledged = match convert::event_report(event, &self.settings.agent_id) {
            EventReport::Connect(report) => {
                let call = async |request| client.report_connect(request).await;
                let response = self.bounded(deadline, report, call).await;
                response.map(|ReportConnectResponse { success, message, .. }| (success, message))
            }
            EventReport::Disconnect(report) => {
                let call = async |request| client.report_disconnect(request).await;
                let response = self.bounded(deadline, report, call).await;
                response.map(|ReportDisconnectResponse { success, message }| (success, message))
            }
            EventReport::Update(report) => {
                let call = async |request| client.report_session_update(request).await;
                return match self.bounded(deadline, report, call).await {
                    Ok(response) => Ok(response
                        .should_disconnect
                        .then(|| one_line(&response.disconnect_reason))),
                    Err(CheckError::Refused { code, message }) => {
                        tracing::debug!(?code, message, "portal refused a session update");
                        Ok(None)
                    }
                    Err(error) => Err(error.into()),
                };
            }
        };
        match acknowledged {
            Ok((true, _)) => Ok(None),
            Ok((false, message)) => Err(ReportError::NotAcknowledged(one_line(&message))),
            // The portal has the `event_id` from an earlier call, whose response was lost.
            Err(CheckError::Refused {
                code: Code::AlreadyExists,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the control stream, which is opened when it runs; its instructions go into
    /// `instructions`. `sender` is of the same agent.
    #[must_use]
    pub fn control_stream(
        &self,
        sender: ControlSender,
        register: Register,
        instructions: mpsc::Sender<Instruction>,
    ) -> ControlStream {
        let (settings, background) = (Arc::clone(&self.settings), self.background.clone());
        ControlStream::new(settings, background, sender, register, instructions)
    }

    fn auth_client(&self, is_login: bool) -> AuthServiceClient<GrpcService> {
        AuthServiceClient::with_origin(self.grpc_service(is_login), self.settings.address.clone())
    }

    fn grpc_service(&self, is_login: bool) -> GrpcService {
        let connection = if is_login {
            &self.connection
        } else {
            &self.background
        };
        // Only a login is worth an attempt before it is due.
        GrpcService::new(connection.clone(), is_login, &self.settings)
    }

    /// Warns about an answer, unless there were many such lines lately.
    fn warn(&self, what: &str, problem: &str) {
        if let Some(suppressed) = self.invalid_answers.admit(clock::now().into_std()) {
            tracing::warn!(suppressed, "{what}: {problem}");
        }
    }

    fn call_deadline(&self) -> Instant {
        clock::now() + self.settings.timeout
    }

    /// Makes one call that ends by `deadline` and within the configured timeout, with the remaining
    /// time as its `grpc-timeout`.
    async fn bounded<M, R>(
        &self,
        deadline: Instant,
        message: M,
        call: impl AsyncFnOnce(tonic::Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, CheckError> {
        let start = clock::now();
        let end = deadline.min(start + self.settings.timeout);
        let budget = end.saturating_duration_since(start);
        let mut request = tonic::Request::new(message);
        request.set_timeout(budget);
        match tokio::time::timeout_at(end, call(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(CheckError::Timeout(budget)),
        }
    }
}
