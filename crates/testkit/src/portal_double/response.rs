//! Responses of gRPC on plain HTTP/2.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;

pub(super) type GrpcResponse = Response<BoxBody<Bytes, io::Error>>;

/// Builds a response with a body and the status OK in its trailers.
pub(super) fn success(body: BoxBody<Bytes, io::Error>) -> GrpcResponse {
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    grpc(body.with_trailers(trailers).boxed())
}

pub(super) fn grpc(body: BoxBody<Bytes, io::Error>) -> GrpcResponse {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
