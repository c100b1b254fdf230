//! A TLS connection as tonic's server takes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tls::accept::TlsConn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Extensions;
use tonic::transport::server::Connected;

pub(super) struct Connection(pub(super) TlsConn);

/// The caller by its certificate, an extension of every request.
#[derive(Debug, Clone)]
pub(super) struct Caller(Arc<str>);

impl Caller {
    /// Returns the name of the caller of a request.
    pub(super) fn of(extensions: &Extensions) -> String {
        extensions
            .get::<Self>()
            .map_or_else(|| "unknown".to_owned(), |caller| caller.0.to_string())
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(self.0.peer().label().into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
