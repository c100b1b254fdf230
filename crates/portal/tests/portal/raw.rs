//! A portal on plain HTTP/2 that sends what no gRPC library would.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portal::{ConnectionState, Portal};
use tls::accept::{Incoming, Settings};
use tls::{ClientTls, ServerTls};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pki::{Ca, Files};
use crate::setup::{BOUND, settings};

/// The answer to every call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// The HTTP status; 200 for 0.
    pub(crate) http: u16,
    /// Added to the headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The message's bytes, sent in one frame.
    pub(crate) message: Option<Vec<u8>>,
    /// Sent after the message.
    pub(crate) trailers: Vec<(&'static str, String)>,
    /// Resets the stream after the message.
    pub(crate) reset: bool,
}

impl Answer {
    fn response(&self) -> Response<BoxBody<Bytes, io::Error>> {
        let mut frames: Vec<io::Result<Frame<Bytes>>> = Vec::new();
        if let Some(message) = &self.message {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let bytes = [&[0], &length[..], message].concat();
            frames.push(Ok(Frame::data(bytes.into())));
        }
        if self.reset {
            frames.push(Err(io::ErrorKind::BrokenPipe.into()));
        } else if !self.trailers.is_empty() {
            frames.push(Ok(Frame::trailers(header_map(&self.trailers))));
        }
        let body = match frames.is_empty() {
            true => Full::default()
                .map_err(|never: Infallible| match never {})
                .boxed(),
            false => BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))),
        };
        let mut response = Response::new(body);
        if self.http != 0 {
            *response.status_mut() = self.http.try_into().unwrap();
        }
        *response.headers_mut() = header_map(&self.headers);
        response
    }
}

fn header_map(pairs: &[(&'static str, String)]) -> HeaderMap {
    let value = |text: &String| HeaderValue::from_bytes(text.as_bytes()).unwrap();
    pairs
        .iter()
        .map(|(name, text)| (http::HeaderName::from_static(name), value(text)))
        .collect()
}

/// The portal and a client of it.
pub(crate) struct RawPortal {
    pub(crate) portal: Portal,
    answer: Arc<Mutex<Answer>>,
    _rest: (Files, Files, tokio_util::sync::DropGuard),
}

impl RawPortal {
    /// Starts both and waits until they are connected.
    pub(crate) async fn start(change: impl FnOnce(&mut portal::Settings)) -> Self {
        let ca = Ca::new("ca");
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let server_files = Files::new(&ca, &ca, "portal.test");
        let answer = Arc::<Mutex<Answer>>::default();
        let address = serve(&server_files, Arc::clone(&answer), &tasks, &token).await;
        let mut settings = settings(address);
        change(&mut settings);
        let files = Files::new(&ca, &ca, "agent.test");
        let tls = ClientTls::load(files.paths()).unwrap();
        let portal = Portal::start(settings, tls, &tasks, &Handle::current(), token.clone()).unwrap();
        let mut state = portal.state();
        let connected = state.wait_for(ConnectionState::is_connected);
        tokio::time::timeout(BOUND, connected).await.unwrap().unwrap();
        Self {
            portal,
            answer,
            _rest: (server_files, files, token.drop_guard()),
        }
    }

    pub(crate) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

async fn serve(
    files: &Files,
    answer: Arc<Mutex<Answer>>,
    tasks: &TaskTracker,
    token: &CancellationToken,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Settings {
        max_connections: 64,
        handshake_timeout: Duration::from_secs(20),
    };
    let tls = ServerTls::load(files.paths()).unwrap();
    let (mut incoming, accept_loop) = Incoming::new(listener, tls, limits, tasks, token.clone());
    tasks.spawn(accept_loop);
    let spawner = tasks.clone();
    tasks.spawn(token.clone().run_until_cancelled_owned(async move {
        while let Some(stream) = incoming.next().await {
            let answer = Arc::clone(&answer);
            let service = hyper::service::service_fn(move |_| {
                let response = answer.lock().unwrap().response();
                async move { Ok::<_, Infallible>(response) }
            });
            spawner.spawn(async move {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }));
    address
}
