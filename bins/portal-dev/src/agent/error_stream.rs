//! A stream that keeps its first read error: HTTP/2 reports only that the connection failed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct ErrorStream<S> {
    stream: S,
    /// The first read error, explained.
    error: Arc<OnceLock<String>>,
}

impl<S> ErrorStream<S> {
    pub(super) fn new(stream: S, error: Arc<OnceLock<String>>) -> Self {
        Self { stream, error }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ErrorStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(failure)) = &read {
            self.error.get_or_init(|| tls::explain(failure));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ErrorStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
