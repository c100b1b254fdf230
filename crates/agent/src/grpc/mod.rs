//! The gRPC server that the portal calls: authentication, roles, and the services.
//!
//! `tls::accept` authenticates every connection (mutual TLS 1.3). A call needs a role, which the
//! configuration grants to a name in the caller's certificate, and writes an audit line.

mod call;
mod health;
mod roles;
mod vpn_agent;

use std::net::SocketAddr;
use std::time::Duration;

use ocserv_agent_proto::agent::v1::vpn_agent_service_server::VpnAgentServiceServer;
use tls::ServerTls;
use tls::accept::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::pb::health_server::HealthServer;

use crate::operations::Operations;
use crate::retrying_listener::RetryingListener;
use health::HealthService;

pub(crate) use roles::{Role, Roles};
pub(crate) use vpn_agent::VpnAgent;

/// The largest request, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
const MAX_STREAMS: u32 = 64;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Concurrent connections.
    pub max_connections: usize,
    /// Time from the TCP accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
}

/// The gRPC server, before it serves.
pub(crate) struct Server {
    listener: RetryingListener,
    tls: ServerTls,
    settings: Settings,
    roles: Roles,
}

impl Server {
    /// Creates a server on `listener`, which may not be bound yet.
    #[must_use]
    pub(crate) fn new(listener: RetryingListener, tls: ServerTls, roles: Roles, settings: Settings) -> Self {
        Self {
            listener,
            tls,
            settings,
            roles,
        }
    }

    /// Returns the bound address; `None` until it is bound.
    #[must_use]
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, and then until the calls in progress have completed. Panics when the
    /// accept loop does, so that the owner of this task learns of it. Connections and calls are
    /// tasks of `tracker`.
    pub(crate) async fn serve(self, operations: Operations, tracker: TaskTracker, stop: CancellationToken) {
        let health = HealthServer::new(HealthService::for_service::<VpnAgentServiceServer<VpnAgent>>(
            stop.clone(),
        ));
        let settings = tls::accept::Settings {
            max_connections: self.settings.max_connections,
            handshake_timeout: self.settings.handshake_timeout,
        };
        let service = VpnAgentServiceServer::new(VpnAgent::new(operations, self.roles, tracker.clone()))
            .max_decoding_message_size(MAX_MESSAGE);
        let Some(listener) = self.listener.wait(&stop).await else {
            return;
        };
        let (incoming, accept_loop) = Incoming::new(listener, self.tls, settings, &tracker, stop.clone());
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .timeout(REQUEST_TIMEOUT)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(health)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        let ((), served) = tokio::join!(accept_loop, serving);
        if let Err(error) = served {
            tracing::error!(%error, "gRPC server failed");
        }
    }
}

#[cfg(test)]
mod tests;
