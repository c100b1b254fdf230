//! How the double takes connections.

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

use super::services;
use super::state::State;

/// How many calls one connection may carry at once: more than any test makes.
const STREAMS: u32 = 2_000;

/// What happens to a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// It is served.
    Open,
    /// It is closed at once.
    Closed,
    /// It is held and nothing is said: no TLS handshake.
    Mute,
    /// It gets its TLS handshake and then nothing: no HTTP/2.
    HandshakeOnly,
    /// It gets its TLS handshake and then these bytes.
    Garbage(Vec<u8>),
}

/// Serves a listener until told to stop; its connections stay until they end or are cut.
pub(super) fn listen(state: Arc<State>, listener: TcpListener, stop: CancellationToken) {
    state.listener_opened();
    // The double's runtime owns the task: it ends with the token or with the runtime.
    TaskTracker::new().spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    // What goes wrong with a socket before it is ours is the peer's business.
                    if let Ok((socket, second)) = accepted.and_then(|(socket, _)| doubled(socket)) {
                        let id = state.connection_opened(second);
                        connections.spawn(hold(Arc::clone(&state), socket, id));
                    }
                }
            }
        }
        drop(listener);
        state.listener_closed();
        connections.join_all().await;
    });
}

/// Keeps a connection on the list as long as it lives.
async fn hold(state: Arc<State>, socket: TcpStream, id: u64) {
    if let Err(error) = serve(&state, socket, id).await {
        state.record().handshake_failures.push(error.to_string());
    }
    state.connection_closed(id);
}

/// A second handle on the socket, by which it can be cut while the first is in use.
fn doubled(socket: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream)> {
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let second = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, second))
}

/// Does with a connection what the door says. Errors are failed handshakes.
async fn serve(state: &Arc<State>, mut socket: TcpStream, id: u64) -> io::Result<()> {
    let door = state.door().clone();
    match door {
        Door::Closed => return Ok(()),
        Door::Mute => {
            until_gone(&mut socket).await;
            return Ok(());
        }
        Door::Open | Door::HandshakeOnly | Door::Garbage(_) => {}
    }
    let mut stream = TlsAcceptor::from(state.tls()).accept(socket).await?;
    match door {
        Door::HandshakeOnly => until_gone(stream.get_mut().0).await,
        Door::Garbage(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            until_gone(stream.get_mut().0).await;
        }
        Door::Open | Door::Closed | Door::Mute => {
            let state = Arc::clone(state);
            let service = service_fn(move |request| services::answer(Arc::clone(&state), id, request));
            // How it ended is the business of the side that is tested.
            let _ = http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(STREAMS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    }
    Ok(())
}

/// Reads the peer's bytes into nothing until it goes away or is cut.
async fn until_gone(socket: &mut TcpStream) {
    let _ = tokio::io::copy(socket, &mut tokio::io::sink()).await;
}
