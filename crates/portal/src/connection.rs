//! One connection to the portal: TCP, TLS and HTTP/2, and the reason of its end.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::diagnostic_stream::{DiagnosticStream, ReadState};
use crate::dial::{Resolver, dial};
use crate::settings::{Settings, Target};
use crate::text::one_line;

/// Largest header block accepted from the portal, in bytes.
const MAX_HEADERS: u32 = 16 << 10;

/// A live connection. Calls go through `sender`; clones share the connection.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) sender: http2::SendRequest<tonic::body::Body>,
    end_reason: watch::Receiver<Option<Arc<str>>>,
    read_state: watch::Receiver<ReadState>,
}

impl Connection {
    /// Dials the portal and waits for its first HTTP/2 data. In TLS 1.3 the client finishes its
    /// handshake before the server has verified the client's certificate: only data shows that the
    /// server accepted it.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub(crate) async fn connect(
        settings: &Settings,
        (target, resolver): (&Target, &mut Resolver),
        tls: &tls::ClientTls,
        tracker: &TaskTracker,
        token: &CancellationToken,
    ) -> Result<Self, String> {
        let timeout = settings.connect_timeout;
        let deadline = clock::now() + timeout;
        let stage = Mutex::new("name not resolved");
        let enter = |text| *stage.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let attempt = async {
            let addresses = resolver.addresses().await.map_err(|error| error.to_string())?;
            enter("no TCP connection");
            let tcp = dial(&addresses, deadline, TcpStream::connect)
                .await
                .map_err(|error| tls::explain(&error))?;
            configure(&tcp, settings).map_err(|error| format!("its socket cannot be configured: {error}"))?;
            enter("TLS handshake not finished");
            let stream = TlsConnector::from(tls.current())
                .connect(target.name.clone(), tcp)
                .await
                .map_err(|error| tls::explain(&error))?;
            enter("no HTTP/2 data");
            Self::handshake(stream, settings, tracker, token).await
        };
        match tokio::time::timeout_at(deadline, attempt).await {
            Ok(outcome) => outcome.map_err(|reason| one_line(&reason)),
            Err(_) => Err(format!(
                "{} within {timeout:?}",
                stage.into_inner().unwrap_or_else(PoisonError::into_inner)
            )),
        }
    }

    async fn handshake(
        stream: TlsStream<TcpStream>,
        settings: &Settings,
        tracker: &TaskTracker,
        token: &CancellationToken,
    ) -> Result<Self, String> {
        let (stream, mut read_state) = DiagnosticStream::new(stream);
        // Aborts the connection and every call on it; cancelled with the client at the latest.
        let abort = token.child_token();
        let guard = abort.clone().drop_guard();
        let tasks = TaskTracker::new();
        let executor = TaskExecutor {
            tracker: tracker.clone(),
            tasks: tasks.clone(),
            abort: abort.clone(),
        };
        // Boxed, because hyper's task of each request is as large as that of the connection.
        let stream = Box::new(stream);
        let (sender, connection) = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| read_state.borrow().end_reason(Some(&error)))?;

        let (end_sender, end_reason) = watch::channel(None::<Arc<str>>);
        let last_read = read_state.clone();
        let drain_timeout = settings.timeout;
        tracker.spawn(abort.run_until_cancelled_owned(async move {
            let outcome = connection.await;
            let reason = last_read.borrow().end_reason(outcome.as_ref().err());
            let _ = end_sender.send(Some(reason.into()));
            if outcome.is_ok() {
                // No new call can start; those in progress may finish within the timeout of one
                // call.
                tasks.close();
                let _elapsed = tokio::time::timeout(drain_timeout, tasks.wait()).await;
            }
            drop(guard);
        }));

        let mut connection = Self {
            sender,
            end_reason,
            read_state: read_state.clone(),
        };
        tokio::select! {
            biased;
            Ok(_) = read_state.wait_for(ReadState::has_data) => Ok(connection),
            reason = connection.closed() => Err(reason.to_string()),
        }
    }

    /// Waits for the end of the connection and returns its reason.
    pub(crate) async fn closed(&mut self) -> Arc<str> {
        match self.end_reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the client stopped".into(),
        }
    }

    /// Whether `other` is this connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.end_reason.same_channel(&other.end_reason)
    }

    /// Whether the portal has sent no data since `start`.
    pub(crate) fn is_silent_since(&self, start: Instant) -> bool {
        self.read_state.borrow().is_silent_since(start)
    }

    /// Whether no new call can start on the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.end_reason.borrow().is_some()
    }
}

/// Lets the kernel find a dead link: it probes an idle connection, and closes one whose peer
/// acknowledges nothing. HTTP/2 pings would do the same, but wake this process, and gRPC servers
/// close a connection that sends more of them than one in five minutes.
fn configure(tcp: &TcpStream, settings: &Settings) -> io::Result<()> {
    let timeout = settings.keepalive_timeout;
    // Frames are small: Nagle's algorithm would only delay them.
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, settings.keepalive_interval)?;
    sockopt::set_tcp_keepintvl(tcp, timeout)?;
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(tcp, milliseconds)?)
}

/// Spawns the tasks of one HTTP/2 connection; they end with `abort` at the latest.
#[derive(Clone)]
struct TaskExecutor {
    tracker: TaskTracker,
    /// Tracks the tasks of this connection only.
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for TaskExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let task = self.abort.clone().run_until_cancelled_owned(task);
        self.tracker.spawn(self.tasks.track_future(task));
    }
}
