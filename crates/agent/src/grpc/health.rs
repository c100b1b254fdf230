//! `grpc.health.v1.Health`, for every caller with a certificate.
//!
//! The status is `SERVING` until the agent stops. Then watchers receive `NOT_SERVING` and their
//! streams end, because a shutdown waits for calls in progress.

use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Reports `SERVING` until `stop`.
pub(super) struct HealthService {
    stop: CancellationToken,
    service: &'static str,
}

impl HealthService {
    /// Creates the health service of `S` and of the server as a whole.
    pub(super) fn for_service<S: NamedService>(stop: CancellationToken) -> Self {
        Self {
            stop,
            service: S::NAME,
        }
    }

    /// Rejects the names of other services; the empty name is the server.
    fn check_service(&self, request: &Request<HealthCheckRequest>) -> Result<(), Status> {
        let name = request.get_ref().service.as_str();
        if name.is_empty() || name == self.service {
            return Ok(());
        }
        Err(Status::not_found("unknown service"))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.check_service(&request)?;
        Ok(Response::new(response(if self.stop.is_cancelled() {
            ServingStatus::NotServing
        } else {
            ServingStatus::Serving
        })))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.check_service(&request)?;
        let stopped = self.stop.clone().cancelled_owned();
        let statuses = stream::iter([ServingStatus::Serving])
            .chain(stream::once(stopped.map(|()| ServingStatus::NotServing)));
        Ok(Response::new(Box::pin(
            statuses.map(|status| Ok(response(status))),
        )))
    }
}
