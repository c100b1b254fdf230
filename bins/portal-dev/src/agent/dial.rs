//! A connection to an agent for one call.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ocserv_agent_model::one_line;
use ocserv_agent_proto::agent::v1::vpn_agent_service_client::VpnAgentServiceClient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tls::Identity;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::{Code, Response, Status};

use super::error_stream::ErrorStream;
use super::table::MAX_TEXT;
use crate::cli::AgentArgs;

/// The agent's default port.
const DEFAULT_PORT: u16 = 9443;
/// Limit for TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Client = VpnAgentServiceClient<Sender>;

/// An agent and the identity to call it with.
pub(super) struct Agent {
    origin: Uri,
    /// The origin in error messages.
    address: String,
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Agent {
    pub(super) fn new(args: AgentArgs) -> anyhow::Result<Self> {
        let origin = args.agent;
        let (Some("https"), Some(authority), "" | "/") =
            (origin.scheme_str(), origin.authority(), origin.path())
        else {
            bail!("--agent {origin}: write it as https://HOST[:PORT]");
        };
        let address = format!("https://{authority}");
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = origin.port_u16().unwrap_or(DEFAULT_PORT);
        let name = args.server_name.unwrap_or_else(|| host.clone());
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| anyhow!("{name:?} is not a DNS name or IP address"))?;
        let identity = Identity::load(&args.identity.files("operator")?)?;
        let tls = identity.client_config()?;
        Ok(Self {
            origin,
            address,
            host,
            port,
            server_name,
            tls,
        })
    }

    /// Connects and makes one call. The outer error is the connection's, the inner one is the
    /// agent's response.
    pub(super) async fn call<T>(
        &self,
        send: impl AsyncFnOnce(Client) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<Result<T, Status>> {
        let address = &self.address;
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| anyhow!("{address} did not answer within {CONNECT_TIMEOUT:?}"))??;
        // In TLS 1.3 a refused certificate is reported only after the handshake.
        let read_error = Arc::new(OnceLock::new());
        let io = TokioIo::new(ErrorStream::new(stream, Arc::clone(&read_error)));
        let failed = |error: &dyn std::fmt::Display| match read_error.get() {
            Some(why) => anyhow!("the connection to {address} failed: {why}"),
            None => anyhow!("the connection to {address} failed: {error}"),
        };
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|error| failed(&error))?;
        let client = VpnAgentServiceClient::with_origin(Sender(sender), self.origin.clone());

        let mut connection = pin!(connection);
        let mut call = pin!(tokio::time::timeout(CALL_TIMEOUT, send(client)));
        let mut ended = false;
        let response = loop {
            tokio::select! {
                response = &mut call => break response,
                // The call reports what the end of the connection means for it.
                _ = &mut connection, if !ended => ended = true,
            }
        };
        let response = response.map_err(|_| anyhow!("{address} did not answer within {CALL_TIMEOUT:?}"))?;
        match response {
            Err(status) if read_error.get().is_some() => Err(failed(&status)),
            Err(status) if std::error::Error::source(&status).is_some() => Err(failed(&status.message())),
            response => Ok(response.map(Response::into_inner)),
        }
    }

    async fn connect(&self) -> anyhow::Result<TlsStream<TcpStream>> {
        let address = &self.address;
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| anyhow!("{}", tls::explain(&error)))
            .with_context(|| format!("could not connect to {address}"))?;
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(self.server_name.clone(), tcp)
            .await
            .map_err(|error| anyhow!("{}", tls::explain(&error)))
            .with_context(|| format!("could not connect to {address}"))
    }

    /// Describes an error status of the agent.
    pub(super) fn status_error(&self, status: &Status) -> anyhow::Error {
        let address = &self.address;
        let message = one_line(status.message(), MAX_TEXT);
        match status.code() {
            Code::PermissionDenied => anyhow!(
                "{address} denied the call: {message} (a name in our certificate needs a role in [grpc.roles] of the \
                 agent's config)"
            ),
            Code::Unimplemented => anyhow!("{address} does not know this call: is it an ocserv-agent?"),
            Code::Unavailable => anyhow!("{address} is unavailable: {message}"),
            code => anyhow!("{address} refused: {message} ({code:?})"),
        }
    }
}

/// hyper's sender as a tower service for the generated client.
#[derive(Clone)]
pub(super) struct Sender(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
