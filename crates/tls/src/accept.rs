//! The accept loop: authenticates incoming connections, within bounds.
//!
//! Handshakes run concurrently, each with its own timeout, so that a stalled peer delays no other.
//! They have a limit of their own: peers without a verified identity cannot use up the connections
//! of those with one. A verified identity is reverified when the server's identity is reloaded,
//! when the peer's certificate expires, and once a minute.

mod connection;
mod origin;
mod peer_registry;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use resilience::{ConnectionLimiter, ConnectionSlot, LogLimiter};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::origin::Origin;
use self::peer_registry::{PeerRegistry, VerifiedPeer};
use crate::clock;
use crate::explain::explain;
use crate::peer::peer_of;
use crate::reload::ServerTls;

pub use self::connection::TlsConn;

/// Most concurrent handshakes; one more evicts another.
const MAX_HANDSHAKES: usize = 256;

/// Pause after a failed accept, which fails again at once without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest drain of a refused peer in time and bytes, so that it can read the TLS alert before the
/// kernel resets the connection over unread data.
const GRACEFUL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const GRACEFUL_CLOSE_BYTES: u64 = 64 << 10;

/// Burst of warnings about refused peers, and the interval of further ones.
const REFUSAL_LOG_BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Limits of the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Concurrent authenticated connections; one more is closed, with a warning in the log.
    pub max_connections: usize,
    /// From the accept to the end of the handshake.
    pub handshake_timeout: Duration,
}

/// A stream of authenticated connections. Ends when the token given to [`Incoming::new`] is
/// cancelled.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<TlsConn>,
}

impl Incoming {
    /// Returns the connections of `listener`, and the accept loop, which the caller runs: no
    /// connection arrives without it. Handshakes are tasks of `tracker`. Each uses the identity
    /// that `tls` holds at that moment; a connection whose peer is no longer trusted, after a
    /// reload or because its certificate expired, fails with [`io::ErrorKind::ConnectionAborted`].
    /// Cancelling `token` closes the listener and drops unfinished handshakes; returned connections
    /// stay open.
    pub fn new(
        listener: TcpListener,
        tls: ServerTls,
        settings: Settings,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, connections) = mpsc::channel(1);
        let acceptor = Acceptor {
            tls,
            handshake_timeout: settings.handshake_timeout,
            permits: Arc::new(Semaphore::new(settings.max_connections)),
            registry: PeerRegistry::default(),
            token,
            sender,
            refusal_log: LogLimiter::new(REFUSAL_LOG_BURST, REFUSAL_LOG_INTERVAL),
        };
        let accept_loop = Arc::new(acceptor).run(listener, tracker.clone());
        (Self { connections }, accept_loop)
    }

    /// Returns the next connection; `None` once the loop has ended.
    pub async fn next(&mut self) -> Option<TlsConn> {
        self.connections.recv().await
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|conn| conn.map(Ok))
    }
}

/// State shared by the accept loop and its handshakes.
struct Acceptor {
    tls: ServerTls,
    handshake_timeout: Duration,
    permits: Arc<Semaphore>,
    registry: PeerRegistry,
    token: CancellationToken,
    sender: mpsc::Sender<TlsConn>,
    refusal_log: LogLimiter,
}

impl Acceptor {
    async fn run(self: Arc<Self>, listener: TcpListener, tracker: TaskTracker) {
        let handshakes = ConnectionLimiter::new(MAX_HANDSHAKES);
        let mut reloads = self.tls.reloads();
        loop {
            let accepted = tokio::select! {
                () = self.token.cancelled() => return,
                () = self.sender.closed() => return,
                () = reloads.next() => {
                    let acceptor = Arc::clone(&self);
                    tracker.spawn(async move { acceptor.registry.reverify(&acceptor.tls).await });
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    let (slot, _evicted) = handshakes.register(Origin::of(address.ip()));
                    let acceptor = Arc::clone(&self);
                    tracker.spawn(async move {
                        tokio::select! {
                            () = acceptor.token.cancelled() => {}
                            () = acceptor.admit(tcp, address, slot) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a TLS connection");
                    tokio::select! {
                        () = self.token.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Authenticates one peer and sends its connection to the receiver, or logs why it was refused.
    async fn admit(&self, tcp: TcpStream, address: SocketAddr, slot: ConnectionSlot<Origin>) {
        let identity = self.tls.current();
        let stream = tokio::select! {
            stream = self.handshake(tcp, address, Arc::clone(&identity)) => stream,
            () = slot.evicted() => {
                return self.warn_refused(address, "evicted, too many unfinished TLS handshakes");
            }
        };
        drop(slot);
        let Some(stream) = stream else { return };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = match peer_of(chain) {
            Ok(peer) => Arc::new(peer),
            Err(error) => return self.warn_refused(address, format_args!("it {error}")),
        };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let label = peer.label();
            return self.warn_refused(address, format_args!("connection limit reached (peer {label})"));
        };
        let peer = Arc::new(VerifiedPeer::new(peer, address, chain));
        let registration = self.registry.register(Arc::clone(&peer));
        // Registered before this check, so that no reload is missed in between.
        if !Arc::ptr_eq(&identity, &self.tls.current()) {
            peer.reverify(&self.tls);
        }
        // Fails only when the receiver is dropped.
        let _ = self
            .sender
            .send(TlsConn::new(stream, peer, self.tls.clone(), registration, permit))
            .await;
    }

    /// Runs the handshake with `identity`, within its timeout. `None` when it failed, after the TLS
    /// alert is sent and the reason is logged.
    async fn handshake(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        identity: Arc<ServerConfig>,
    ) -> Option<TlsStream<TcpStream>> {
        // Frames are small: Nagle's algorithm would only delay them. Failing to disable it is
        // harmless.
        let _ = tcp.set_nodelay(true);
        let handshake = TlsAcceptor::from(identity).accept(tcp).into_fallible();
        match tokio::time::timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err((error, tcp))) => {
                self.log_failed_handshake(address, &error);
                graceful_close(tcp).await;
                None
            }
            Err(_) => {
                let timeout = self.handshake_timeout;
                self.warn_refused(
                    address,
                    format_args!("TLS handshake not finished within {timeout:?}"),
                );
                None
            }
        }
    }

    fn log_failed_handshake(&self, address: SocketAddr, error: &io::Error) {
        let reason = explain(error);
        match error.kind() {
            // Port scanners and health checks of load balancers.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                tracing::debug!("lost {address} during the TLS handshake: {reason}");
            }
            _ => self.warn_refused(address, reason),
        }
    }

    /// Warns that `address` was refused, within the limit of such warnings.
    fn warn_refused(&self, address: SocketAddr, reason: impl Display) {
        match self.refusal_log.admit(clock::now().into_std()) {
            Some(0) => tracing::warn!("refused {address}: {reason}"),
            Some(suppressed) => tracing::warn!(suppressed, "refused {address}: {reason}"),
            None => {}
        }
    }
}

/// Shuts down the write side and drains the connection, within bounds, after the TLS alert.
async fn graceful_close(mut tcp: TcpStream) {
    let drain = async {
        if tcp.shutdown().await.is_ok() {
            let mut unread = (&mut tcp).take(GRACEFUL_CLOSE_BYTES);
            let _ = tokio::io::copy(&mut unread, &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(GRACEFUL_CLOSE_TIMEOUT, drain).await;
}
