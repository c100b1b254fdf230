//! What the portal can be asked and told.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Event, Login, OcservId, Username, Verdict};
use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
use ocserv_agent_proto::vpn::v1::event_service_client::EventServiceClient;
use ocserv_agent_proto::vpn::v1::{ReportConnectResponse, ReportDisconnectResponse, ValidateSessionRequest};
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::{Code, Response, Status};

use crate::convert::{self, Report, one_line};
use crate::service::PortalService;
use crate::{CheckError, DeliverError, Portal};

/// The largest message of the portal that is read, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// The portal's judgement about a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub verdict: Verdict,
    /// How long it may be used again: zero is not at all, `None` is for our own settings to say.
    pub ttl: Option<Duration>,
    /// Which policy said so, for the decision log; one line.
    pub policy_version: Option<String>,
}

/// The portal's judgement about a session that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// Whether it is in order.
    pub valid: bool,
    /// Why not; one line, it may be empty.
    pub reason: String,
    /// Whether it must end now. Never together with `valid`.
    pub force_disconnect: bool,
}

impl Portal {
    /// Asks whether a login may happen. Takes no longer than until `deadline` and no longer than the configured
    /// timeout. Where there is no connection, it may bring about an attempt; see [`crate::ReconnectSettings`]. `now`
    /// is what the portal is told as the time of the question.
    ///
    /// # Errors
    /// [`CheckError`] when there is no verdict; [`CheckError::is_outage`] says what that means.
    pub async fn check_policy(
        &self,
        login: &Login,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<Answer, CheckError> {
        let request = convert::check_policy(login, now);
        let call = async |request| self.auth(true).check_policy(request).await;
        let answer = self
            .bounded(deadline, request, call)
            .await
            .and_then(|wire| convert::answer(&wire));
        if let Err(CheckError::Nonsense(what)) = &answer {
            tracing::warn!("portal answered a login with {what}; taken as an outage");
        }
        answer
    }

    /// Asks whether a session that is up may go on. Does not bring about an attempt to connect: nobody waits.
    ///
    /// # Errors
    /// [`CheckError`] when there is no judgement. That must never end a session, whatever the error is.
    pub async fn validate_session(
        &self,
        username: &Username,
        id: OcservId,
        client_ip: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<Validity, CheckError> {
        let request = ValidateSessionRequest {
            username: username.to_string(),
            session_id: id.to_string(),
            client_ip: client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            request_time: Some(Timestamp::from(now)),
        };
        let call = async |request| self.auth(false).validate_session(request).await;
        let validity = self
            .bounded(self.latest(), request, call)
            .await
            .and_then(|wire| convert::validity(&wire));
        if let Err(CheckError::Nonsense(what)) = &validity {
            tracing::warn!("portal answered about a session with {what}; the session goes on");
        }
        validity
    }

    /// Tells the portal of an event. `Ok` means that the portal has it: now, or already from an earlier try. Does not
    /// bring about an attempt to connect: events can wait.
    ///
    /// # Errors
    /// [`DeliverError`] when it is not known to have it; send it again later.
    pub async fn deliver(&self, event: &Event) -> Result<(), DeliverError> {
        let mut client = EventServiceClient::with_origin(
            PortalService::new(self.clone(), false),
            self.settings().address.clone(),
        )
        .max_decoding_message_size(MAX_MESSAGE);
        let latest = self.latest();
        let taken = match convert::report(event, &self.settings().agent_id) {
            Report::Connect(report) => {
                let call = async |request| client.report_connect(request).await;
                let response = self.bounded(latest, report, call).await;
                response.map(|ReportConnectResponse { success, message, .. }| (success, message))
            }
            Report::Disconnect(report) => {
                let call = async |request| client.report_disconnect(request).await;
                let response = self.bounded(latest, report, call).await;
                response.map(|ReportDisconnectResponse { success, message }| (success, message))
            }
        };
        match taken {
            Ok((true, _)) => Ok(()),
            Ok((false, message)) => Err(DeliverError::NotAcknowledged(one_line(&message))),
            // Known by its `event_id`: an earlier try arrived and its answer was lost.
            Err(CheckError::Refused {
                code: Code::AlreadyExists,
                ..
            }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn auth(&self, urge: bool) -> AuthServiceClient<PortalService> {
        AuthServiceClient::with_origin(
            PortalService::new(self.clone(), urge),
            self.settings().address.clone(),
        )
        .max_decoding_message_size(MAX_MESSAGE)
    }

    fn latest(&self) -> Instant {
        Instant::now() + self.settings().timeout
    }

    /// Makes one call that is over by `deadline` and within the configured timeout, and tells the portal how long it
    /// has (`grpc-timeout`).
    async fn bounded<M, R>(
        &self,
        deadline: Instant,
        message: M,
        call: impl AsyncFnOnce(tonic::Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, CheckError> {
        let start = Instant::now();
        let end = deadline.min(start + self.settings().timeout);
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
