//! `/metrics`, `/livez` and `/readyz` over plain HTTP/1.1, for Prometheus and probes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::registry::Registry;

const MAX_CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept, such as with no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the process can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can, without something that an operator should restore, in one line.
    Degraded(String),
    /// It cannot, with the reason in one line.
    NotReady(String),
}

/// The content of the endpoints.
pub struct Endpoints {
    /// Rendered by `/metrics`.
    pub registry: Arc<Registry>,
    /// Updates gauges; called before each rendering, so it must be quick.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// Called for each `/livez`, so it must be quick: why the process cannot go on, if so.
    pub stalled: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Called for each `/readyz`, so it must be quick.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
}

/// Serves the endpoints on `listener` until `stop`. At most 32 connections at once, each for at
/// most a minute; more wait in the backlog. The connections are tasks of `tracker`.
pub async fn serve(
    listener: TcpListener,
    endpoints: Endpoints,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let endpoints = Arc::new(endpoints);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(Ok(slot)) = stop.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await else {
            return;
        };
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            return;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (endpoints, stop) = (Arc::clone(&endpoints), stop.clone());
        tracker.spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request| {
                let response = respond(&endpoints, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let bounded = tokio::time::timeout(CONNECTION_TIMEOUT, connection);
            // An error concerns the client alone.
            let _ = stop.run_until_cancelled(bounded).await;
        });
    }
}

fn respond(endpoints: &Endpoints, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            (endpoints.refresh)();
            let mut response = text(StatusCode::OK, endpoints.registry.render());
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        "/livez" => match (endpoints.stalled)() {
            None => text(StatusCode::OK, "alive\n".into()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {why}\n")),
        },
        "/readyz" => match (endpoints.readiness)() {
            Readiness::Ready => text(StatusCode::OK, "ready\n".into()),
            Readiness::Degraded(why) => text(StatusCode::OK, format!("ready, degraded: {why}\n")),
            Readiness::NotReady(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests;
