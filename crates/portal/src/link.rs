//! One connection to the portal: TCP, TLS, HTTP/2, and why it ended.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::convert::one_line;
use crate::dial::{Lookup, dial};
use crate::error::chain;
use crate::settings::{Settings, Target};
use crate::together::{Parts, Together};

/// The most that a header block may hold: the portal's errors carry texts, not files.
const MAX_HEADERS: u32 = 16 << 10;

/// A live connection. Calls go through `sender`; clones share the connection.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) sender: http2::SendRequest<tonic::body::Body>,
    ended: watch::Receiver<Option<Arc<str>>>,
}

impl Link {
    /// Dials the portal and waits for its first words over HTTP/2. In TLS 1.3 the client's handshake is over before the
    /// server has looked at its certificate: only those words show that it was accepted.
    ///
    /// # Errors
    /// The reason in plain words.
    pub(crate) async fn connect(
        settings: &Settings,
        (target, lookup): (&Target, &mut Lookup),
        tls: &tls::ClientTls,
        tracker: &TaskTracker,
        token: &CancellationToken,
    ) -> Result<Self, String> {
        let timeout = settings.connect_timeout;
        let by = Instant::now() + timeout;
        let stage = Mutex::new("no address of its name");
        let at = |text| *stage.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let attempt = async {
            let addresses = lookup.addresses().await.map_err(|error| error.to_string())?;
            at("no TCP connection");
            let tcp = dial(&addresses, by, TcpStream::connect)
                .await
                .map_err(|error| tls::explain(&error))?;
            // Small frames both ways: waiting to fill a packet would only add delay. Works without, too.
            let _ = tcp.set_nodelay(true);
            at("no end of the TLS handshake");
            let stream = TlsConnector::from(tls.current())
                .connect(target.name.clone(), tcp)
                .await
                .map_err(|error| tls::explain(&error))?;
            at("not a word over HTTP/2");
            Self::over(stream, settings, tracker, token).await
        };
        match tokio::time::timeout_at(by, attempt).await {
            Ok(outcome) => outcome.map_err(|reason| one_line(&reason)),
            Err(_) => Err(format!(
                "{} within {timeout:?}",
                stage.into_inner().unwrap_or_else(PoisonError::into_inner)
            )),
        }
    }

    async fn over(
        stream: TlsStream<TcpStream>,
        settings: &Settings,
        tracker: &TaskTracker,
        token: &CancellationToken,
    ) -> Result<Self, String> {
        let (seen, mut first_words) = watch::channel(Seen::default());
        // Cancelled when the connection must go, whatever is still under way on it; at the latest with the client.
        let hard_end = token.child_token();
        let guard = hard_end.clone().drop_guard();
        let parts = Parts::default();
        let (sender, connection) = http2::Builder::new(parts.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout)
            .keep_alive_while_idle(true)
            .max_header_list_size(MAX_HEADERS)
            .handshake(TokioIo::new(Observed {
                stream,
                seen,
                failed: None,
            }))
            .await
            .map_err(|error| reason(Some(&error), &first_words.borrow(), settings.keepalive_timeout))?;

        let (end, ended) = watch::channel(None::<Arc<str>>);
        let last_words = first_words.clone();
        let (keepalive, drain) = (settings.keepalive_timeout, settings.timeout);
        let mut together = Together::new(connection, parts);
        tracker.spawn(hard_end.run_until_cancelled_owned(async move {
            let outcome = together.connection().await;
            let _ = end.send(Some(
                reason(outcome.as_ref().err(), &last_words.borrow(), keepalive).into(),
            ));
            if outcome.is_ok() {
                // No new calls, but those under way may still finish, if it does not take longer than any call may.
                let _late = tokio::time::timeout(drain, together.rest()).await;
            }
            drop(guard);
        }));

        let mut link = Self { sender, ended };
        tokio::select! {
            biased;
            Ok(_) = first_words.wait_for(|seen| seen.words) => Ok(link),
            reason = link.ended() => Err(reason.to_string()),
        }
    }

    /// Waits for the end and says why it came.
    pub(crate) async fn ended(&mut self) -> Arc<str> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the client stopped".into(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed() || self.ended.borrow().is_some()
    }
}

/// Why a connection ended, in plain words.
fn reason(error: Option<&hyper::Error>, seen: &Seen, keepalive: Duration) -> String {
    match (&seen.last, error) {
        (Some(Last::Error(text)), _) if seen.words => text.clone(),
        (Some(Last::Error(text)), _) => match text.as_str() {
            "it reset the connection" | "it closed the connection in the middle" => silent(text),
            _ => text.clone(),
        },
        (Some(Last::Eof), _) if seen.words => "it closed the connection".to_owned(),
        (Some(Last::Eof), _) => silent("it closed the connection"),
        (None, Some(error)) if !error.is_timeout() => one_line(&chain(error)),
        // hyper ends an idle connection whose peer answers no ping without an error.
        (None, _) if seen.heard.is_none_or(|heard| heard.elapsed() >= keepalive) => {
            format!("it gave no sign of life within {keepalive:?} of being asked")
        }
        (None, _) => "it takes no more calls on this connection".to_owned(),
    }
}

fn silent(what: &str) -> String {
    format!(
        "{what} right after the TLS handshake, without a word; it may have refused our certificate (see its log)"
    )
}

/// What has been heard on a connection.
#[derive(Debug, Default)]
struct Seen {
    /// The portal said something.
    words: bool,
    /// When it last did.
    heard: Option<Instant>,
    /// The last thing that was read, where it was no data.
    last: Option<Last>,
}

#[derive(Debug)]
enum Last {
    Eof,
    Error(String),
}

/// A stream that remembers how reading went. HTTP/2 keeps only a text of what TLS has to say.
struct Observed {
    stream: TlsStream<TcpStream>,
    seen: watch::Sender<Seen>,
    /// Writing failed so, and the peer's last words are still to be heard.
    failed: Option<io::Error>,
}

impl Observed {
    /// A peer that refuses us says why and closes. If we write after that, writing fails and HTTP/2 gives up with the
    /// reason still unread, perhaps not even noticed by the runtime: so it is read first.
    fn last_words_first<T>(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Result<T>> {
        let mut bytes = [0; 512];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *self).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Err(error)),
                Poll::Pending if is_gone(&error) => {
                    self.failed = Some(error);
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Whether a connection that fails so has an end to be read.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for Observed {
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
                // Wakes nobody but for the first words.
                self.seen.send_if_modified(|seen| {
                    seen.heard = Some(Instant::now());
                    !std::mem::replace(&mut seen.words, true)
                });
            }
            Poll::Ready(Ok(())) => self.seen.send_modify(|seen| seen.last = Some(Last::Eof)),
            Poll::Ready(Err(error)) => {
                let text = tls::explain(error);
                self.seen.send_modify(|seen| seen.last = Some(Last::Error(text)));
            }
        }
        read
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return self.last_words_first(cx, error);
        }
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Err(error)) => self.last_words_first(cx, error),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return self.last_words_first(cx, error);
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => self.last_words_first(cx, error),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
