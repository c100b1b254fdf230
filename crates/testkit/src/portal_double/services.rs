//! AuthService and EventService, straight on HTTP/2.

use std::convert::Infallible;
use std::future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, ReportConnectResponse, ReportDisconnectResponse, ReportSessionUpdateResponse,
};
use prost::Message;
use tonic::Code;

use super::reply::{Reply, frame_of, framed};
use super::state::{PortalEvent, Record, Script, State};

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// Answers one request as the script says.
pub(super) async fn answer(
    state: Arc<State>,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
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
            call.answer(
                |record, request: CheckPolicyRequest| record.checks.push(request),
                |script, request| {
                    script
                        .check_of
                        .get(&request.username)
                        .unwrap_or(&script.check)
                        .clone()
                },
            )
            .await
        }
        "/vpn.v1.AuthService/ValidateSession" => {
            call.answer(
                |record, request| record.validations.push(request),
                |script, _| script.validate.clone(),
            )
            .await
        }
        "/vpn.v1.EventService/ReportConnect" => {
            call.answer(
                |record, request| record.events.push(PortalEvent::Connect(request)),
                |script, _| {
                    script.event.clone().map(|said| ReportConnectResponse {
                        success: said.success,
                        ..ReportConnectResponse::default()
                    })
                },
            )
            .await
        }
        "/vpn.v1.EventService/ReportDisconnect" => {
            call.answer(
                |record, request| record.events.push(PortalEvent::Disconnect(request)),
                |script, _| {
                    script.event.clone().map(|said| ReportDisconnectResponse {
                        success: said.success,
                        ..ReportDisconnectResponse::default()
                    })
                },
            )
            .await
        }
        "/vpn.v1.EventService/ReportSessionUpdate" => {
            call.answer(
                |record, request| record.events.push(PortalEvent::Update(request)),
                |script, _| {
                    script.event.clone().map(|said| ReportSessionUpdateResponse {
                        success: said.success,
                        ..ReportSessionUpdateResponse::default()
                    })
                },
            )
            .await
        }
        _ => status(Code::Unimplemented, "the double has no such method"),
    })
}

/// One call that has arrived whole.
struct Call<'a> {
    state: &'a State,
    connection: u64,
    body: &'a [u8],
}

impl Call<'_> {
    /// Notes the request and says what the script says to it.
    async fn answer<Q: Message + Default + Clone, M: Message>(
        self,
        note: impl FnOnce(&mut Record, Q),
        choose: impl FnOnce(&Script, &Q) -> Reply<M>,
    ) -> Answer {
        let Ok(request) = Q::decode(self.body) else {
            return status(Code::InvalidArgument, "the double cannot read this request");
        };
        let (reply, delay) = {
            let script = self.state.script();
            (choose(&script, &request), script.delay)
        };
        note(&mut self.state.record(), request);
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
            Reply::Torn(bytes) => torn(&bytes),
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

/// A body, and then in the trailers that all is well.
fn success(body: BoxBody<Bytes, io::Error>) -> Answer {
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    grpc(body.with_trailers(trailers).boxed())
}

/// The start of a message, then a reset.
fn torn(bytes: &[u8]) -> Answer {
    let pieces = [
        Ok(Frame::data(frame_of(bytes, 100))),
        Err(io::ErrorKind::BrokenPipe.into()),
    ];
    grpc(BodyExt::boxed(StreamBody::new(stream::iter(pieces))))
}

/// No body; the status stands in the headers.
fn status(code: Code, text: &str) -> Answer {
    let mut response = grpc(Empty::new().map_err(|never| match never {}).boxed());
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    if let Ok(text) = HeaderValue::from_str(&text.replace(' ', "%20")) {
        headers.insert("grpc-message", text);
    }
    response
}

fn grpc(body: BoxBody<Bytes, io::Error>) -> Answer {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
