//! The portal's whole answer to one call, and the gRPC status that was on the wire.
//!
//! tonic infers a status for an answer that has none: a proxy's 403 becomes `PERMISSION_DENIED`.
//! So the status is read here, and tonic gets answers with the status OK only.

use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tonic::{Code, Status};

use crate::text::one_line;

const STATUS: &str = "grpc-status";
/// tonic panics on details that are not base64.
const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// Why an answer carries no message that may be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The status that was sent.
    #[error("status {code:?}: {message}")]
    Status { code: Code, message: String },
    /// Neither the headers nor the trailers have a gRPC status.
    #[error("no gRPC status")]
    NoStatus(StatusCode),
    /// The answer has more bytes than this.
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// The connection or the stream broke before the end of the answer.
    #[error("the answer broke off")]
    BrokenOff(#[source] hyper::Error),
}

/// Reads a whole answer of at most `max` bytes, whose status is OK.
pub(crate) async fn read(
    response: Response<Incoming>,
    max: usize,
) -> Result<Response<Full<Bytes>>, AnswerError> {
    let (mut parts, body) = response.into_parts();
    let mut is_ok = is_ok(&mut parts.headers)?;
    let body =
        Limited::new(body, max)
            .collect()
            .await
            .map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => AnswerError::BrokenOff(*error),
                Err(error) => {
                    debug_assert!(error.is::<LengthLimitError>(), "`Limited` has no other error");
                    AnswerError::TooLarge(max)
                }
            })?;
    if let Some(trailers) = body.trailers() {
        is_ok |= self::is_ok(&mut trailers.clone())?;
    }
    if !is_ok || parts.status != StatusCode::OK {
        return Err(AnswerError::NoStatus(parts.status));
    }
    parts.headers.insert(STATUS, http::HeaderValue::from_static("0"));
    Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
}

/// Removes the details of a status.
pub(crate) fn remove_details(headers: &mut HeaderMap) {
    headers.remove(STATUS_DETAILS);
}

/// Whether `headers` have the status OK; any other status is an error.
fn is_ok(headers: &mut HeaderMap) -> Result<bool, AnswerError> {
    remove_details(headers);
    match Status::from_header_map(headers) {
        None => Ok(false),
        Some(status) if status.code() == Code::Ok => Ok(true),
        Some(status) => Err(AnswerError::Status {
            code: status.code(),
            message: one_line(status.message()),
        }),
    }
}
