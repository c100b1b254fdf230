//! The connection as a service that generated clients can call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::Portal;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// There is no connection; says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) Arc<str>);

/// Sends each request over the connection of the moment.
#[derive(Debug, Clone)]
pub(crate) struct PortalService {
    portal: Portal,
    urge: bool,
}

impl PortalService {
    /// With `urge`, a call may bring about an attempt to connect before it is due.
    pub(crate) fn new(portal: Portal, urge: bool) -> Self {
        Self { portal, urge }
    }
}

impl tower_service::Service<http::Request<tonic::body::Body>> for PortalService {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let Self { portal, urge } = self.clone();
        Box::pin(async move {
            let unsent = match send(&portal, urge, request).await? {
                Sent::Answered(response) => return Ok(response),
                // The connection ended in between, and nothing of the request has left us: once more, on the next.
                Sent::Not(request, _) => request,
            };
            match send(&portal, urge, unsent).await? {
                Sent::Answered(response) => Ok(response),
                Sent::Not(_, error) => Err(error.into()),
            }
        })
    }
}

enum Sent {
    Answered(http::Response<hyper::body::Incoming>),
    Not(http::Request<tonic::body::Body>, hyper::Error),
}

async fn send(portal: &Portal, urge: bool, request: http::Request<tonic::body::Body>) -> Result<Sent, Error> {
    let mut link = portal.link(urge).await.map_err(Unavailable)?;
    match link.sender.try_send_request(request).await {
        Ok(response) => Ok(Sent::Answered(response)),
        Err(mut failed) => match failed.take_message() {
            Some(request) => Ok(Sent::Not(request, failed.into_error())),
            None => Err(failed.into_error().into()),
        },
    }
}
