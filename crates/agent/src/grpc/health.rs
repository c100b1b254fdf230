//! `grpc.health.v1.Health`: whether the agent works, for anybody with a certificate.
//!
//! It works until it stops: then the answer changes, and whoever watches hears so and is let go, because a stop waits
//! for the calls that are under way.

use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Healthy until `stop`.
pub(super) struct UntilStop {
    stop: CancellationToken,
    service: &'static str,
}

impl UntilStop {
    /// Tells the health of `S` and of the server as a whole.
    pub(super) fn of<S: NamedService>(stop: CancellationToken) -> Self {
        Self {
            stop,
            service: S::NAME,
        }
    }

    /// Every service is as healthy as the server, whose name is empty.
    fn known(&self, request: &Request<HealthCheckRequest>) -> Result<(), Status> {
        let name = request.get_ref().service.as_str();
        if name.is_empty() || name == self.service {
            return Ok(());
        }
        Err(Status::not_found("there is no such service here"))
    }
}

fn says(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for UntilStop {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.known(&request)?;
        Ok(Response::new(says(if self.stop.is_cancelled() {
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
        self.known(&request)?;
        let stopped = self.stop.clone().cancelled_owned();
        let told = stream::iter([ServingStatus::Serving])
            .chain(stream::once(stopped.map(|()| ServingStatus::NotServing)));
        Ok(Response::new(Box::pin(told.map(|status| Ok(says(status))))))
    }
}
