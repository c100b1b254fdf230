//! The connection as a service for generated clients.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};

use crate::answer;
use crate::connection_manager::ConnectionHandle;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Request = http::Request<tonic::body::Body>;
type Response = http::Response<Full<Bytes>>;

/// Sends each request over the current connection.
#[derive(Clone)]
pub(crate) struct GrpcService {
    connection: ConnectionHandle,
    request_connect: bool,
    max_answer: usize,
}

impl GrpcService {
    /// Creates a service for answers of at most `max_answer` bytes. With `request_connect`, a
    /// request without a connection may start an attempt before it is due.
    pub(crate) fn new(connection: ConnectionHandle, request_connect: bool, max_answer: usize) -> Self {
        Self {
            connection,
            request_connect,
            max_answer,
        }
    }

    async fn send(&self, request: Request) -> Result<SendOutcome, Error> {
        let mut connection = self.connection.acquire(self.request_connect).await?;
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok(SendOutcome::Response(response)),
            Err(mut failed) => match failed.take_message() {
                Some(request) => Ok(SendOutcome::Unsent(request, failed.into_error())),
                None => Err(failed.into_error().into()),
            },
        }
    }
}

enum SendOutcome {
    Response(http::Response<Incoming>),
    /// The connection closed before any part of the request was sent.
    Unsent(Request, hyper::Error),
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
            let response = match service.send(request).await? {
                SendOutcome::Response(response) => response,
                SendOutcome::Unsent(request, _) => match service.send(request).await? {
                    SendOutcome::Response(response) => response,
                    SendOutcome::Unsent(_, error) => return Err(error.into()),
                },
            };
            Ok(answer::read(response, service.max_answer).await?)
        })
    }
}
