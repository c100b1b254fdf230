//! The accept loop: TCP in, authenticated connections out.
//!
//! Handshakes run next to each other, each against its own time, so that a peer that stalls delays nobody. They have a
//! bound of their own: who has not proved an identity cannot use up the connections of those who have. What a connection
//! proved is checked again when the identity is reloaded.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use crate::{Peer, ServerTls, explain, peer_of};

mod connections;
mod handshakes;
mod refusals;

use connections::{Connections, Listed, Proof};
use handshakes::{Handshake, Handshakes};
use refusals::Refusals;

/// Handshakes under way at once. For one more another one has to go.
const MAX_HANDSHAKES: usize = 256;

/// The pause after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a refused peer is listened to, so that it can read why before the kernel resets
/// the connection over bytes that nobody took.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 << 10;

/// The loop's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Authenticated connections at once; one more is closed, with a warning in the log.
    pub max_connections: usize,
    /// From the accept to the end of the handshake.
    pub handshake_timeout: Duration,
}

/// The connections that came in and proved who they are. Ends when the token given to [`Incoming::start`] is
/// cancelled.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<TlsConn>,
}

impl Incoming {
    /// Starts to accept on `listener`, in tasks of `tracker`. Each handshake takes the identity that `tls` holds at
    /// that moment; a connection whose peer it would no longer let in after a reload ends with
    /// [`io::ErrorKind::ConnectionAborted`]. Cancelling `token` closes the listener and drops unfinished handshakes;
    /// connections that were handed out live on.
    #[must_use]
    pub fn start(
        listener: TcpListener,
        tls: ServerTls,
        settings: Settings,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> Self {
        let (sender, ready) = mpsc::channel(1);
        let shared = Shared {
            tls,
            handshake_timeout: settings.handshake_timeout,
            room: Arc::new(Semaphore::new(settings.max_connections)),
            connections: Connections::default(),
            token,
            sender,
            refusals: Refusals::default(),
        };
        tracker.spawn(accept_loop(listener, Arc::new(shared), tracker.clone()));
        Self { ready }
    }

    /// The next connection; `None` once the loop has ended.
    pub async fn next(&mut self) -> Option<TlsConn> {
        self.ready.recv().await
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|conn| conn.map(Ok))
    }
}

struct Shared {
    tls: ServerTls,
    handshake_timeout: Duration,
    room: Arc<Semaphore>,
    connections: Connections,
    token: CancellationToken,
    sender: mpsc::Sender<TlsConn>,
    refusals: Refusals,
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>, tracker: TaskTracker) {
    let handshakes = Handshakes::new(MAX_HANDSHAKES);
    let mut reloads = shared.tls.reloads();
    loop {
        let accepted = tokio::select! {
            () = shared.token.cancelled() => return,
            () = shared.sender.closed() => return,
            () = reloads.next() => {
                let shared = Arc::clone(&shared);
                tracker.spawn(async move { shared.connections.judge(&shared.tls).await });
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                let handshake = handshakes.begin(address.ip());
                let shared = Arc::clone(&shared);
                tracker.spawn(async move {
                    tokio::select! {
                        () = shared.token.cancelled() => {}
                        () = admit(tcp, address, handshake, &shared) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a TLS connection");
                tokio::select! {
                    () = shared.token.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Takes one peer through the handshake and hands it over, or says why not.
async fn admit(tcp: TcpStream, address: SocketAddr, handshake: Handshake, shared: &Shared) {
    let identity = shared.tls.current();
    let shaken = tokio::select! {
        shaken = shake_hands(tcp, address, Arc::clone(&identity), shared) => shaken,
        () = handshake.expelled.cancelled() => {
            let why = "it had to make room for others: it had not finished the TLS handshake";
            return shared.refusals.warn(address, why);
        }
    };
    drop(handshake);
    let Some(stream) = shaken else { return };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = match peer_of(chain) {
        Ok(peer) => Arc::new(peer),
        Err(error) => return shared.refusals.warn(address, format_args!("it {error}")),
    };
    let Ok(room) = Arc::clone(&shared.room).try_acquire_owned() else {
        let why = format_args!(
            "as many connections as allowed are up ({} wanted one more)",
            peer.label()
        );
        return shared.refusals.warn(address, why);
    };
    let proof = Arc::new(Proof {
        peer,
        address,
        chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        distrusted: CancellationToken::new(),
    });
    let listed = shared.connections.enter(Arc::clone(&proof));
    // Listed first, so that no reload comes in between.
    if !Arc::ptr_eq(&identity, &shared.tls.current()) {
        proof.judge(&shared.tls);
    }
    let conn = TlsConn {
        stream,
        distrusted: Box::pin(proof.distrusted.clone().cancelled_owned()),
        proof,
        _listed: listed,
        _room: room,
    };
    // Fails only when the receiver is gone: then nobody wants connections any more.
    let _ = shared.sender.send(conn).await;
}

/// The handshake with `identity`, within its time. `None` when it failed, and the peer has been told.
async fn shake_hands(
    tcp: TcpStream,
    address: SocketAddr,
    identity: Arc<ServerConfig>,
    shared: &Shared,
) -> Option<TlsStream<TcpStream>> {
    // Small frames both ways: waiting to fill a packet would only add delay. Works without, too.
    let _ = tcp.set_nodelay(true);
    let handshake = TlsAcceptor::from(identity).accept(tcp).into_fallible();
    match tokio::time::timeout(shared.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, tcp))) => {
            log_refusal(address, &error, &shared.refusals);
            farewell(tcp).await;
            None
        }
        Err(_) => {
            let timeout = shared.handshake_timeout;
            let why = format_args!("it did not finish the TLS handshake within {timeout:?}");
            shared.refusals.warn(address, why);
            None
        }
    }
}

fn log_refusal(address: SocketAddr, error: &io::Error, refusals: &Refusals) {
    let why = explain(error);
    match error.kind() {
        // Port scanners and load balancers that only knock.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            tracing::debug!("lost {address} during the TLS handshake: {why}");
        }
        _ => refusals.warn(address, why),
    }
}

/// Closes our side and takes what the peer still sends, within bounds. The alert has been written already.
async fn farewell(mut tcp: TcpStream) {
    let drained = async {
        if tcp.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut (&mut tcp).take(FAREWELL_BYTES), &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL, drained).await;
}

/// A connection whose peer proved who it is. Counts against the bound until dropped.
#[derive(Debug)]
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    proof: Arc<Proof>,
    distrusted: Pin<Box<WaitForCancellationFutureOwned>>,
    _listed: Listed,
    _room: OwnedSemaphorePermit,
}

impl TlsConn {
    /// Who it is.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.proof.peer
    }

    /// Where it came from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.proof.address
    }

    /// Fails once its peer is no longer trusted; until then that moment wakes the task.
    fn poll_trust(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.distrusted.as_mut().poll(cx) {
            Poll::Ready(()) => Err(distrusted()),
            Poll::Pending => Ok(()),
        }
    }

    /// The same without waking anybody: who writes also reads.
    fn check_trust(&self) -> io::Result<()> {
        if self.proof.distrusted.is_cancelled() {
            return Err(distrusted());
        }
        Ok(())
    }
}

fn distrusted() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the peer's certificate is no longer trusted",
    )
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_trust(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_trust()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_trust()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
