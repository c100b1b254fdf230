//! One connection to an agent for one call.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ocserv_agent_proto::agent::v1::vpn_agent_service_client::VpnAgentServiceClient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tls::Identity;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::{Code, Response, Status};

use super::table::printable;
use super::witness::Witness;
use crate::cli::AgentArgs;

/// The agent's port where none is given.
const PORT: u16 = 9443;
/// TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The call itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Client = VpnAgentServiceClient<Sender>;

/// An agent that can be called.
pub(super) struct Agent {
    origin: Uri,
    /// The same for messages.
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
        let port = origin.port_u16().unwrap_or(PORT);
        let name = args.server_name.unwrap_or_else(|| host.clone());
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| anyhow!("{name:?} is not a name that a certificate can bear"))?;
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

    /// Connects and makes one call. The outer error is about the connection, the inner one is the agent's answer.
    pub(super) async fn call<T>(
        &self,
        ask: impl AsyncFnOnce(Client) -> Result<Response<T>, Status>,
    ) -> anyhow::Result<Result<T, Status>> {
        let address = &self.address;
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| anyhow!("{address} did not answer within {CONNECT_TIMEOUT:?}"))??;
        // In TLS 1.3 an agent that refuses our certificate says so only after the handshake.
        let verdict = Arc::new(OnceLock::new());
        let io = TokioIo::new(Witness::new(stream, Arc::clone(&verdict)));
        let lost = |error: &dyn std::fmt::Display| match verdict.get() {
            Some(why) => anyhow!("the connection to {address} failed: {why}"),
            None => anyhow!("the connection to {address} failed: {error}"),
        };
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|error| lost(&error))?;
        let client = VpnAgentServiceClient::with_origin(Sender(sender), self.origin.clone());

        let mut connection = pin!(connection);
        let mut call = pin!(tokio::time::timeout(CALL_TIMEOUT, ask(client)));
        let mut ended = false;
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                // Whether it ended well or not, the call knows what that means for it.
                _ = &mut connection, if !ended => ended = true,
            }
        };
        let answer = answer.map_err(|_| anyhow!("{address} did not answer within {CALL_TIMEOUT:?}"))?;
        match answer {
            Err(status) if verdict.get().is_some() => Err(lost(&status)),
            Err(status) if std::error::Error::source(&status).is_some() => Err(lost(&status.message())),
            answer => Ok(answer.map(Response::into_inner)),
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

    /// The agent's refusal in words.
    pub(super) fn refused(&self, status: &Status) -> anyhow::Error {
        let address = &self.address;
        let message = printable(status.message());
        match status.code() {
            Code::PermissionDenied => anyhow!(
                "{address} does not let our certificate do this: {message} (a name in it needs a role in [grpc.roles] \
                 of the agent's config)"
            ),
            Code::Unimplemented => anyhow!("{address} does not know this call: is it an ocserv-agent?"),
            Code::Unavailable => anyhow!("{address} could not do it now: {message}"),
            code => anyhow!("{address} refused: {message} ({code:?})"),
        }
    }
}

/// hyper's sender as the service that a generated client takes.
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
