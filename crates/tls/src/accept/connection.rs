//! One authenticated connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::peer_registry::{Registration, VerifiedPeer};
use crate::peer::Peer;
use crate::reload::ServerTls;

/// A connection whose peer is authenticated. Counts against the connection limit until dropped.
/// With tonic, each request has its peer as an extension of type `Arc<Peer>`.
#[derive(Debug)]
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    peer: Arc<VerifiedPeer>,
    tls: ServerTls,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends when the peer must be verified again.
    reverify: Pin<Box<Sleep>>,
    _registration: Registration,
    _permit: OwnedSemaphorePermit,
}

impl TlsConn {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        peer: Arc<VerifiedPeer>,
        tls: ServerTls,
        registration: Registration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            stream,
            tls,
            reverify: Box::pin(tokio::time::sleep(peer.reverify_after())),
            revoked: Box::pin(peer.revoked.clone().cancelled_owned()),
            peer,
            _registration: registration,
            _permit: permit,
        }
    }

    /// Returns the names of the peer.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer.peer
    }

    /// Returns the address of the peer.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// Fails once the peer is no longer trusted; wakes the task at that moment.
    fn poll_trusted(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.reverify.as_mut().poll(cx).is_ready() {
            self.peer.reverify(&self.tls);
            let next = tokio::time::sleep(self.peer.reverify_after());
            self.reverify.set(next);
        }
        match self.revoked.as_mut().poll(cx) {
            Poll::Ready(()) => Err(revoked()),
            Poll::Pending => Ok(()),
        }
    }

    /// Like [`Self::poll_trusted`] without a wake-up: a task that writes also reads.
    fn check_trusted(&self) -> io::Result<()> {
        if self.peer.revoked.is_cancelled() {
            return Err(revoked());
        }
        Ok(())
    }
}

fn revoked() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the peer's certificate is no longer trusted",
    )
}

impl Connected for TlsConn {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(self.peer())
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_trusted(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_trusted()?;
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
        self.check_trusted()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
