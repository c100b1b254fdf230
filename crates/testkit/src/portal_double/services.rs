//! AuthService and EventService on plain HTTP/2.

use std::convert::Infallible;
use std::future;
use std::io;
use std::sync::Arc;

use futures_util::stream;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, ReportConnectResponse, ReportDisconnectResponse, ReportSessionUpdateResponse,
};
use prost::Message;
use tonic::Code;

use super::control_stream;
use super::reply::{Reply, frame_of, framed};
use super::response::{GrpcResponse, grpc, success};
use super::state::{PortalEvent, Received, Replies, State};

/// Replies to one request as the test has set.
pub(super) async fn respond(
    state: Arc<State>,
    connection: u64,
    request: Request<Incoming>,
) -> Result<GrpcResponse, Infallible> {
    let path = request.uri().path().to_owned();
    // A stream has no end to wait for.
    if path == "/agent.v1.AgentService/AgentStream" {
        let response = control_stream::respond(&state, request.into_body());
        return Ok(response.unwrap_or_else(|| status(Code::Unimplemented, "not served")));
    }
    let Ok(body) = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
    else {
        return Ok(status(Code::Cancelled, ""));
    };
    let call = Call {
        state: &state,
        connection,
        body: body.get(5..).unwrap_or_default(),
    };
    Ok(match path.as_str() {
        "/vpn.v1.AuthService/CheckPolicy" => {
            call.respond(
                |received, request: CheckPolicyRequest| received.checks.push(request),
                |replies, request| {
                    replies
                        .check_of
                        .get(&request.username)
                        .unwrap_or(&replies.check)
                        .clone()
                },
            )
            .await
        }
        "/vpn.v1.AuthService/ValidateSession" => {
            call.respond(
                |received, request| received.validations.push(request),
                |replies, _| replies.validate.clone(),
            )
            .await
        }
        "/vpn.v1.EventService/ReportConnect" => {
            call.respond(
                |received, request| received.events.push(PortalEvent::Connect(request)),
                |replies, _| {
                    replies
                        .event
                        .clone()
                        .map(|acknowledgement| ReportConnectResponse {
                            success: acknowledgement.success,
                            ..ReportConnectResponse::default()
                        })
                },
            )
            .await
        }
        "/vpn.v1.EventService/ReportDisconnect" => {
            call.respond(
                |received, request| received.events.push(PortalEvent::Disconnect(request)),
                |replies, _| {
                    replies
                        .event
                        .clone()
                        .map(|acknowledgement| ReportDisconnectResponse {
                            success: acknowledgement.success,
                            ..ReportDisconnectResponse::default()
                        })
                },
            )
            .await
        }
        "/vpn.v1.EventService/ReportSessionUpdate" => {
            call.respond(
                |received, request| received.events.push(PortalEvent::Update(request)),
                |replies, _| {
                    replies
                        .event
                        .clone()
                        .map(|acknowledgement| ReportSessionUpdateResponse {
                            success: acknowledgement.success,
                            ..ReportSessionUpdateResponse::default()
                        })
                },
            )
            .await
        }
        _ => status(Code::Unimplemented, "the double has no such method"),
    })
}

/// One completely received call.
struct Call<'a> {
    state: &'a State,
    connection: u64,
    body: &'a [u8],
}

impl Call<'_> {
    /// Records the request and sends the reply that is set for it.
    async fn respond<Q: Message + Default + Clone, M: Message>(
        self,
        record: impl FnOnce(&mut Received, Q),
        choose: impl FnOnce(&Replies, &Q) -> Reply<M>,
    ) -> GrpcResponse {
        let Ok(request) = Q::decode(self.body) else {
            return status(Code::InvalidArgument, "the double cannot decode this request");
        };
        let (reply, delay) = {
            let replies = self.state.replies();
            (choose(&replies, &request), replies.delay)
        };
        record(&mut self.state.received(), request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match reply {
            Reply::Message(message) => success(
                Full::new(framed(&message))
                    .map_err(|never| match never {})
                    .boxed(),
            ),
            Reply::NoMessage => success(Empty::new().map_err(|never| match never {}).boxed()),
            Reply::Bytes(bytes) => success(
                Full::new(frame_of(&bytes, 0))
                    .map_err(|never| match never {})
                    .boxed(),
            ),
            Reply::Torn(bytes) => truncated(&bytes),
            Reply::Status(code, text) => status(code, &text),
            Reply::Http(code) => {
                let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed());
                *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
                response
            }
            Reply::Hang => future::pending().await,
            Reply::CloseConnection => {
                self.state.cut_one(self.connection);
                future::pending().await
            }
        }
    }
}

/// Builds a response that breaks off in its message.
fn truncated(bytes: &[u8]) -> GrpcResponse {
    let pieces = [
        Ok(Frame::data(frame_of(bytes, 100))),
        Err(io::ErrorKind::BrokenPipe.into()),
    ];
    grpc(BodyExt::boxed(StreamBody::new(stream::iter(pieces))))
}

/// Builds a response without a body, with the status in its headers.
fn status(code: Code, text: &str) -> GrpcResponse {
    let mut response = grpc(Empty::new().map_err(|never| match never {}).boxed());
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    if let Ok(text) = HeaderValue::from_str(&text.replace(' ', "%20")) {
        headers.insert("grpc-message", text);
    }
    response
}
