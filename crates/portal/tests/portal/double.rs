//! A portal that gives every call the reply that the test sets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ocserv_agent_proto::agent::v1::agent_service_server::AgentServiceServer;
use ocserv_agent_proto::vpn::v1::auth_service_server::{AuthService, AuthServiceServer};
use ocserv_agent_proto::vpn::v1::event_service_server::{EventService, EventServiceServer};
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ReportConnectRequest, ReportConnectResponse,
    ReportDisconnectRequest, ReportDisconnectResponse, ReportSessionUpdateRequest,
    ReportSessionUpdateResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tls::accept::{Incoming, Settings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

use crate::stream_double::StreamDouble;

/// Most calls at once on one connection.
pub(crate) const MAX_STREAMS: u32 = 4;

/// The reply to every call.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Policy(CheckPolicyResponse),
    Acknowledged(bool),
    Error(Code),
    Never,
}

/// One received call, with the peer and its `grpc-timeout`.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) policy: Option<CheckPolicyRequest>,
    pub(crate) connect: Option<ReportConnectRequest>,
    pub(crate) peer: String,
    pub(crate) timeout: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Double {
    reply: Arc<Mutex<Reply>>,
    calls: Arc<Mutex<Vec<Call>>>,
    pub(crate) stream: StreamDouble,
}

impl Double {
    /// Serves on a free port until `token` is cancelled.
    pub(crate) async fn start(
        tls: tls::ServerTls,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> (Self, SocketAddr) {
        let allow = CheckPolicyResponse {
            allowed: true,
            ..CheckPolicyResponse::default()
        };
        let double = Self {
            reply: Arc::new(Mutex::new(Reply::Policy(allow))),
            calls: Arc::default(),
            stream: StreamDouble::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            max_connections: 64,
            handshake_timeout: Duration::from_secs(20),
        };
        let (incoming, accept_loop) = Incoming::new(listener, tls, settings, tracker, token.clone());
        tracker.spawn(accept_loop);
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .add_service(AuthServiceServer::new(double.clone()))
            .add_service(EventServiceServer::new(double.clone()))
            .add_service(AgentServiceServer::new(double.stream.clone()))
            .serve_with_incoming_shutdown(incoming, token.cancelled_owned());
        tracker.spawn(async move { serving.await.unwrap() });
        (double, address)
    }

    pub(crate) fn set_reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    async fn record<T>(&self, request: &Request<T>, fill: impl FnOnce(&mut Call)) -> Result<Reply, Status> {
        let peer = request.extensions().get::<Arc<tls::Peer>>().unwrap().label();
        let timeout = request
            .metadata()
            .get("grpc-timeout")
            .map(|text| text.to_str().unwrap().to_owned());
        let mut call = Call {
            policy: None,
            connect: None,
            peer,
            timeout,
        };
        fill(&mut call);
        self.calls.lock().unwrap().push(call);
        let reply = self.reply.lock().unwrap().clone();
        match reply {
            Reply::Error(code) => Err(Status::new(code, "because\nof this")),
            Reply::Never => std::future::pending().await,
            reply => Ok(reply),
        }
    }
}

#[tonic::async_trait]
impl AuthService for Double {
    async fn check_policy(
        &self,
        request: Request<CheckPolicyRequest>,
    ) -> Result<Response<CheckPolicyResponse>, Status> {
        let policy = request.get_ref().clone();
        match self.record(&request, |call| call.policy = Some(policy)).await? {
            Reply::Policy(response) => Ok(Response::new(response)),
            other => panic!("{other:?} is not a reply to CheckPolicy"),
        }
    }

    async fn validate_session(
        &self,
        request: Request<ValidateSessionRequest>,
    ) -> Result<Response<ValidateSessionResponse>, Status> {
        self.record(&request, |_| {}).await?;
        Ok(Response::new(ValidateSessionResponse {
            valid: false,
            invalid_reason: "account disabled".into(),
            force_disconnect: true,
        }))
    }
}

#[tonic::async_trait]
impl EventService for Double {
    async fn report_connect(
        &self,
        request: Request<ReportConnectRequest>,
    ) -> Result<Response<ReportConnectResponse>, Status> {
        let connect = request.get_ref().clone();
        match self.record(&request, |call| call.connect = Some(connect)).await? {
            Reply::Acknowledged(success) => Ok(Response::new(ReportConnectResponse {
                success,
                message: "full".into(),
                ..Default::default()
            })),
            other => panic!("{other:?} is not a reply to ReportConnect"),
        }
    }

    async fn report_disconnect(
        &self,
        _: Request<ReportDisconnectRequest>,
    ) -> Result<Response<ReportDisconnectResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }

    async fn report_session_update(
        &self,
        _: Request<ReportSessionUpdateRequest>,
    ) -> Result<Response<ReportSessionUpdateResponse>, Status> {
        Err(Status::unimplemented("not used"))
    }
}
