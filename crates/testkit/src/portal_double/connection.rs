//! Accepts and serves the double's connections.

use std::io;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept_mode::AcceptMode;
use super::services;
use super::state::State;

/// Most concurrent calls on one connection, more than any test makes.
const MAX_STREAMS: u32 = 2_000;

/// Serves a listener until `stop`; its connections stay until they end or are cut.
pub(super) fn listen(state: Arc<State>, listener: TcpListener, stop: CancellationToken) {
    state.listener_opened();
    // The double's runtime owns the task, which ends with the token or with the runtime.
    TaskTracker::new().spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    // A socket that fails before it is accepted is the peer's failure.
                    if let Ok((socket, second)) = accepted.and_then(|(socket, _)| duplicate(socket)) {
                        let id = state.connection_opened(second);
                        connections.spawn(serve_registered(Arc::clone(&state), socket, id));
                    }
                }
            }
        }
        drop(listener);
        state.listener_closed();
        connections.join_all().await;
    });
}

/// Serves a connection and removes it from the list of open ones when it ends.
async fn serve_registered(state: Arc<State>, socket: TcpStream, id: u64) {
    if let Err(error) = serve(&state, socket, id).await {
        state.received().handshake_failures.push(error.to_string());
    }
    state.connection_closed(id);
}

/// Returns a second handle of the socket, by which it can be cut while the first is in use.
fn duplicate(socket: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream)> {
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let second = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, second))
}

/// Treats a connection as the mode says. Errors are failed handshakes.
async fn serve(state: &Arc<State>, mut socket: TcpStream, id: u64) -> io::Result<()> {
    let mode = state.accept_mode().clone();
    match mode {
        AcceptMode::Close => return Ok(()),
        AcceptMode::Silent => {
            drain(&mut socket).await;
            return Ok(());
        }
        AcceptMode::Serve | AcceptMode::HandshakeOnly | AcceptMode::Garbage(_) => {}
    }
    let mut stream = TlsAcceptor::from(state.tls()).accept(socket).await?;
    match mode {
        AcceptMode::HandshakeOnly => drain(stream.get_mut().0).await,
        AcceptMode::Garbage(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            drain(stream.get_mut().0).await;
        }
        AcceptMode::Serve | AcceptMode::Close | AcceptMode::Silent => {
            let state = Arc::clone(state);
            let service = service_fn(move |request| services::respond(Arc::clone(&state), id, request));
            // The side under test reports how it ended.
            let _ = http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(MAX_STREAMS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    }
    Ok(())
}

/// Discards the peer's bytes until the connection is closed or cut.
async fn drain(socket: &mut TcpStream) {
    let _ = tokio::io::copy(socket, &mut tokio::io::sink()).await;
}
