//! The connection as a service for generated clients.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::Instant;

use crate::answer;
use crate::clock;
use crate::connection::Connection;
use crate::connection_manager::ConnectionHandle;
use crate::settings::Settings;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Request = http::Request<tonic::body::Body>;
type Response = http::Response<Full<Bytes>>;

/// Sends each request over the current connection.
#[derive(Clone)]
pub(crate) struct GrpcService {
    connection: ConnectionHandle,
    request_connect: bool,
    max_answer: usize,
    min_silence: Duration,
}

impl GrpcService {
    /// Creates a service. With `request_connect`, a request without a connection may start an
    /// attempt before it is due.
    pub(crate) fn new(connection: ConnectionHandle, request_connect: bool, settings: &Settings) -> Self {
        Self {
            connection,
            request_connect,
            max_answer: settings.limits.message_size(),
            min_silence: settings.timeout / 2,
        }
    }

    async fn send(&self, request: Request) -> Result<SendOutcome, Error> {
        let mut connection = self.connection.acquire(self.request_connect).await?;
        let silence = SilenceGuard {
            started: clock::now(),
            connection: connection.clone(),
            handle: self.connection.clone(),
            min: self.min_silence,
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let answer = answer::read(response, self.max_answer).await?;
                drop(silence);
                Ok(SendOutcome::Response(answer))
            }
            Err(mut failed) => match failed.take_message() {
                Some(request) => Ok(SendOutcome::Unsent(request, failed.into_error())),
                None => Err(failed.into_error().into()),
            },
        }
    }
}

enum SendOutcome {
    Response(Response),
    /// The connection closed before any part of the request was sent.
    Unsent(Request, hyper::Error),
}

/// Replaces a connection on which a call ended and the portal was silent for a while: its peer may
/// be gone although TCP works, as behind a proxy.
struct SilenceGuard {
    started: Instant,
    connection: Connection,
    handle: ConnectionHandle,
    min: Duration,
}

impl Drop for SilenceGuard {
    fn drop(&mut self) {
        let duration = clock::now().saturating_duration_since(self.started);
        if duration >= self.min && self.connection.is_silent_since(self.started) {
            self.handle.rotate();
        }
    }
}

impl tower_service::Service<Request> for GrpcService {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// Sends `request` and reads the whole answer; retries once on the next connection if no part
    /// of the request was sent.
    fn call(&mut self, request: Request) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let unsent = match service.send(request).await? {
                SendOutcome::Response(response) => return Ok(response),
                SendOutcome::Unsent(request, _) => request,
            };
            match service.send(unsent).await? {
                SendOutcome::Response(response) => Ok(response),
                SendOutcome::Unsent(_, error) => Err(error.into()),
            }
        })
    }
}
