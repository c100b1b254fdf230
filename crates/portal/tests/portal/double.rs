//! A portal that says what a test tells it to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::auth_service_server::{AuthService, AuthServiceServer};
use ocserv_agent_proto::vpn::v1::event_service_server::{EventService, EventServiceServer};
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, CheckPolicyResponse, ReportConnectRequest, ReportConnectResponse,
    ReportDisconnectRequest, ReportDisconnectResponse, ReportSessionUpdateRequest,
    ReportSessionUpdateResponse, ValidateSessionRequest, ValidateSessionResponse,
};
use tls::accept::{Incoming, Settings, TlsConn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};

/// What the portal says to every question.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Policy(CheckPolicyResponse),
    Taken(bool),
    Error(Code),
    Nothing,
}

/// What came in, with who asked and how long the asker said to wait.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) policy: Option<CheckPolicyRequest>,
    pub(crate) connect: Option<ReportConnectRequest>,
    pub(crate) peer: String,
    pub(crate) timeout: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Double {
    say: Arc<Mutex<Say>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Double {
    /// Serves on a port of its own until `token`.
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
            say: Arc::new(Mutex::new(Say::Policy(allow))),
            seen: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            max_connections: 64,
            handshake_timeout: Duration::from_secs(20),
        };
        let incoming = Incoming::start(listener, tls, settings, tracker, token.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(AuthServiceServer::new(double.clone()))
            .add_service(EventServiceServer::new(double.clone()))
            .serve_with_incoming_shutdown(incoming.map(|conn| conn.map(Connection)), token.cancelled_owned());
        tracker.spawn(async move { serving.await.unwrap() });
        (double, address)
    }

    pub(crate) fn say(&self, say: Say) {
        *self.say.lock().unwrap() = say;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn hear<T>(&self, request: &Request<T>, note: impl FnOnce(&mut Seen)) -> Result<Say, Status> {
        let peer = request.extensions().get::<Arc<tls::Peer>>().unwrap().label();
        let timeout = request
            .metadata()
            .get("grpc-timeout")
            .map(|text| text.to_str().unwrap().to_owned());
        let mut seen = Seen {
            policy: None,
            connect: None,
            peer,
            timeout,
        };
        note(&mut seen);
        self.seen.lock().unwrap().push(seen);
        let say = self.say.lock().unwrap().clone();
        match say {
            Say::Error(code) => Err(Status::new(code, "because\nof this")),
            Say::Nothing => std::future::pending().await,
            say => Ok(say),
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
        match self.hear(&request, |seen| seen.policy = Some(policy)).await? {
            Say::Policy(response) => Ok(Response::new(response)),
            other => panic!("{other:?} is no answer to CheckPolicy"),
        }
    }

    async fn validate_session(
        &self,
        request: Request<ValidateSessionRequest>,
    ) -> Result<Response<ValidateSessionResponse>, Status> {
        self.hear(&request, |_| {}).await?;
        Ok(Response::new(ValidateSessionResponse {
            valid: false,
            invalid_reason: "left".into(),
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
        match self.hear(&request, |seen| seen.connect = Some(connect)).await? {
            Say::Taken(success) => Ok(Response::new(ReportConnectResponse {
                success,
                message: "full".into(),
                ..Default::default()
            })),
            other => panic!("{other:?} is no answer to ReportConnect"),
        }
    }

    async fn report_disconnect(
        &self,
        _: Request<ReportDisconnectRequest>,
    ) -> Result<Response<ReportDisconnectResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn report_session_update(
        &self,
        _: Request<ReportSessionUpdateRequest>,
    ) -> Result<Response<ReportSessionUpdateResponse>, Status> {
        Err(Status::unimplemented("not in these tests"))
    }
}

struct Connection(TlsConn);

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Arc<tls::Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(self.0.peer())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
