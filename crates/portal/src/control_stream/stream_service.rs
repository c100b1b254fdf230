//! A connection as a service for a call whose answer is a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use http_body_util::combinators::MapFrame;
use hyper::body::{Bytes, Frame, Incoming};

use crate::answer;
use crate::connection::Connection;

type Body = MapFrame<Incoming, fn(Frame<Bytes>) -> Frame<Bytes>>;

/// Sends requests over one connection, and passes their answers on as they arrive.
#[derive(Clone)]
pub(super) struct StreamService(pub(super) Connection);

impl tower_service::Service<http::Request<tonic::body::Body>> for StreamService {
    type Response = http::Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let mut sender = self.0.sender.clone();
        Box::pin(async move {
            let mut response = sender.send_request(request).await?;
            answer::remove_details(response.headers_mut());
            Ok(response.map(|body| body.map_frame(without_details as fn(_) -> _)))
        })
    }
}

fn without_details(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        answer::remove_details(trailers);
    }
    frame
}
