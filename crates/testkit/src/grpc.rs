//! A gRPC client connection over a given socket, with mutual TLS, to call an agent as a portal
//! does.
//!
//! ```no_run
//! # async fn run(lab: &testkit::lab::Lab) -> std::io::Result<()> {
//! use ocserv_agent_proto::agent::v1::vpn_agent_service_client::VpnAgentServiceClient;
//! use testkit::grpc::Channel;
//! use testkit::lab::{AGENT_GRPC, Node};
//!
//! let stream = lab.connect_tcp(Node::Portal, AGENT_GRPC.parse().unwrap())?;
//! let portal = lab.pki().portal().unwrap();
//! let agent = VpnAgentServiceClient::new(Channel::open(stream, &portal, "agent.lab").await?);
//! # drop(agent); Ok(()) }
//! ```

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Authority;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower_service::Service;

use crate::mtls;
use crate::pki::Issued;

/// One HTTP/2 connection, shared by its clones and closed with the last of them.
#[derive(Debug, Clone)]
pub struct Channel {
    send: SendRequest<Body>,
    authority: Authority,
    _driver: Arc<JoinSet<()>>,
}

impl Channel {
    /// Opens a connection over a connected socket as `identity`, to a server whose certificate must
    /// be for `server_name`.
    ///
    /// # Errors
    /// When the files cannot be read or the handshake fails. A server that rejects the client's
    /// certificate says so later, as an error of the first call.
    pub async fn open(stream: TcpStream, identity: &Issued, server_name: &str) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(mtls::client(identity)?)
            .connect(name, stream)
            .await?;
        let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The calls on the connection report how it ended.
            let _ = connection.await;
        });
        let authority = server_name.parse().map_err(io::Error::other)?;
        Ok(Self {
            send,
            authority,
            _driver: Arc::new(driver),
        })
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.send.send_request(request))
    }
}
