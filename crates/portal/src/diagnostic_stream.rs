//! A stream that records read errors, which HTTP/2 would reduce to a text.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ocserv_agent_model::error_chain;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::clock;
use crate::text::one_line;

/// The state of reading from a connection.
#[derive(Debug, Default)]
pub(crate) struct ReadState {
    last_data: Option<Instant>,
    end: Option<ReadEnd>,
}

#[derive(Debug)]
enum ReadEnd {
    Eof,
    Error { kind: io::ErrorKind, text: String },
}

impl ReadState {
    /// Whether the portal has sent any data.
    pub(crate) fn has_data(&self) -> bool {
        self.last_data.is_some()
    }

    /// Returns why the connection ended, for the operator; `error` is HTTP/2's error.
    pub(crate) fn end_reason(&self, error: Option<&hyper::Error>) -> String {
        match (&self.end, error) {
            (Some(ReadEnd::Error { kind, text }), _) => match kind {
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof if !self.has_data() => {
                    without_data(text)
                }
                _ => text.clone(),
            },
            (Some(ReadEnd::Eof), _) if self.has_data() => "it closed the connection".to_owned(),
            (Some(ReadEnd::Eof), _) => without_data("it closed the connection"),
            (None, Some(error)) => one_line(&error_chain(error)),
            (None, None) => "it accepts no more calls on this connection".to_owned(),
        }
    }

    /// Whether the portal has sent no data since `start`.
    pub(crate) fn is_silent_since(&self, start: Instant) -> bool {
        self.last_data.is_none_or(|at| at < start)
    }
}

fn without_data(end: &str) -> String {
    format!(
        "{end} right after the TLS handshake without sending data; it may have refused our certificate (see its log)"
    )
}

/// A TLS stream that publishes its [`ReadState`] and reads pending data before it reports a failed
/// write.
///
/// A peer that refuses the client sends the reason and closes. A write after that fails, and HTTP/2
/// would end the connection with the reason still unread.
pub(crate) struct DiagnosticStream {
    stream: TlsStream<TcpStream>,
    state: watch::Sender<ReadState>,
    /// The failed write to report once everything the peer sent has been read.
    write_error: Option<io::Error>,
}

impl DiagnosticStream {
    /// Wraps `stream`; the receiver wakes for the first data and for the end of reading.
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> (Self, watch::Receiver<ReadState>) {
        let (state, receiver) = watch::channel(ReadState::default());
        let stream = Self {
            stream,
            state,
            write_error: None,
        };
        (stream, receiver)
    }

    /// Reads the pending data, then returns `error`. If the peer has closed the connection, waits
    /// for the end of its data.
    fn read_before_failing<T>(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<T>> {
        let mut bytes = [0; 512];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *self).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Err(error)),
                Poll::Pending if is_closed_by_peer(&error) => {
                    self.write_error = Some(error);
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for DiagnosticStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &read {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                // Receivers wake for the first data only.
                self.state
                    .send_if_modified(|state| state.last_data.replace(clock::now()).is_none());
            }
            Poll::Ready(Ok(())) => self.state.send_modify(|state| state.end = Some(ReadEnd::Eof)),
            Poll::Ready(Err(error)) => {
                let end = ReadEnd::Error {
                    kind: error.kind(),
                    text: tls::explain(error),
                };
                self.state.send_modify(|state| state.end = Some(end));
            }
        }
        read
    }
}

impl AsyncWrite for DiagnosticStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.write_error.take() {
            return self.read_before_failing(cx, error);
        }
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Err(error)) => self.read_before_failing(cx, error),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.write_error.take() {
            return self.read_before_failing(cx, error);
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => self.read_before_failing(cx, error),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
