//! The task that keeps one connection to the portal, and the handle through which calls use it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::connection::Connection;
use crate::dial::Resolver;
use crate::error::NotConnected;
use crate::settings::{Settings, SettingsError, Target};

/// State of the connection to the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// An attempt is in progress.
    Connecting,
    /// The portal has sent data over a connection that both sides accepted.
    Connected,
    /// There is no connection.
    Down {
        /// Why, for the operator.
        reason: Arc<str>,
        /// When the next attempt is due at the latest.
        retry_at: Instant,
    },
    /// The client was stopped; the final state.
    Stopped,
}

impl ConnectionState {
    /// Whether there is a connection for calls.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// The connection and its state, for callers.
#[derive(Clone)]
enum Phase {
    Connecting,
    Connected(Connection),
    Down {
        reason: Arc<str>,
        /// Number of attempts since the start.
        attempts: u64,
        /// When a waiting call may start another attempt.
        earliest_attempt: Instant,
    },
    Stopped,
}

/// What a connection is for. The log has the logins' connection; that for background calls is the
/// same portal's, and its failures are those of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Logins,
    Background,
}

/// Gives calls the current connection; clones share it.
#[derive(Clone)]
pub(crate) struct ConnectionHandle(Arc<Shared>);

struct Shared {
    phase: watch::Receiver<Phase>,
    state: watch::Receiver<ConnectionState>,
    requests: Requests,
}

/// Requests of callers to the manager.
#[derive(Clone, Default)]
struct Requests {
    connect: Arc<Notify>,
    rotate: Arc<Notify>,
}

impl ConnectionHandle {
    /// Returns a receiver of the connection's state and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.0.state.clone()
    }

    /// Requests a new connection in place of the current one.
    pub(crate) fn rotate(&self) {
        self.0.requests.rotate.notify_one();
    }

    /// Waits for a connection; `None` once the client is stopped.
    pub(crate) async fn connected(&self) -> Option<Connection> {
        let mut phase = self.0.phase.clone();
        loop {
            match &*phase.borrow_and_update() {
                Phase::Connected(connection) if !connection.is_closed() => return Some(connection.clone()),
                Phase::Stopped => return None,
                Phase::Connected(_) | Phase::Connecting | Phase::Down { .. } => {}
            }
            phase.changed().await.ok()?;
        }
    }

    /// Waits until another connection is the current one.
    pub(crate) async fn replaced(&self, connection: &Connection) {
        let is_other = |phase: &Phase| matches!(phase, Phase::Connected(other) if !other.is_same(connection));
        if self.0.phase.clone().wait_for(is_other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the connection, after an attempt in progress. With `request_connect`, starts an
    /// attempt unless the last one is too recent, and waits for it; the caller bounds the wait.
    pub(crate) async fn acquire(&self, request_connect: bool) -> Result<Connection, NotConnected> {
        let mut phase = self.0.phase.clone();
        let mut attempts_at_request = None;
        loop {
            let current = phase.borrow_and_update().clone();
            match current {
                Phase::Connected(connection) if !connection.is_closed() => return Ok(connection),
                // The manager is about to publish the next phase.
                Phase::Connected(_) | Phase::Connecting => {}
                Phase::Stopped => return Err(NotConnected::stopped()),
                Phase::Down {
                    reason,
                    attempts,
                    earliest_attempt,
                } => {
                    let requested_failed = attempts_at_request.is_some_and(|before| attempts > before);
                    if !request_connect || requested_failed || clock::now() < earliest_attempt {
                        return Err(NotConnected(reason));
                    }
                    attempts_at_request = Some(attempts);
                    self.0.requests.connect.notify_one();
                }
            }
            if phase.changed().await.is_err() {
                return Err(NotConnected::stopped());
            }
        }
    }
}

/// Connects, publishes the connection, and reconnects with backoff when it ends.
pub(crate) struct ConnectionManager {
    settings: Arc<Settings>,
    purpose: Purpose,
    target: Target,
    resolver: Resolver,
    tls: tls::ClientTls,
    tracker: TaskTracker,
    token: CancellationToken,
    phase: watch::Sender<Phase>,
    state: watch::Sender<ConnectionState>,
    requests: Requests,
    /// The reason that was logged last for being down.
    logged: Option<Arc<str>>,
}

impl ConnectionManager {
    /// Starts the task on `runtime`, in `tracker`; it ends when `token` is cancelled.
    ///
    /// # Errors
    /// When the address can never be dialled.
    pub(crate) fn start(
        settings: Arc<Settings>,
        purpose: Purpose,
        tls: tls::ClientTls,
        (tracker, runtime): (&TaskTracker, &Handle),
        token: CancellationToken,
    ) -> Result<ConnectionHandle, SettingsError> {
        let target = Target::of(&settings)?;
        let (phase_sender, phase) = watch::channel(Phase::Connecting);
        let (state_sender, state) = watch::channel(ConnectionState::Connecting);
        let requests = Requests::default();
        let manager = Self {
            settings,
            purpose,
            resolver: Resolver::new(&target),
            target,
            tls,
            tracker: tracker.clone(),
            token,
            phase: phase_sender,
            state: state_sender,
            requests: requests.clone(),
            logged: None,
        };
        tracker.spawn_on(manager.run(), runtime);
        Ok(ConnectionHandle(Arc::new(Shared {
            phase,
            state,
            requests,
        })))
    }

    async fn run(mut self) {
        let token = self.token.clone();
        tokio::select! {
            () = token.cancelled() => {}
            () = self.reconnect_forever() => {}
        }
        self.state.send_replace(ConnectionState::Stopped);
        self.phase.send_replace(Phase::Stopped);
    }

    async fn reconnect_forever(&mut self) {
        let reconnect = self.settings.reconnect;
        // A connection that ends before a full keepalive round counts as a failure, so that a
        // portal that drops connections at once is retried with backoff.
        let stable_after = self.settings.keepalive_interval + self.settings.keepalive_timeout;
        let (mut attempts, mut failures) = (0, 0);
        loop {
            self.state.send_replace(ConnectionState::Connecting);
            self.phase.send_replace(Phase::Connecting);
            let outcome = self.connect().await;
            let attempted = clock::now();
            attempts += 1;
            let reason = match outcome {
                Ok(connection) => {
                    self.logged = None;
                    self.log_established("portal connected");
                    let reason = self.serve(connection).await;
                    if clock::now().saturating_duration_since(attempted) >= stable_after {
                        failures = 0;
                    }
                    reason
                }
                Err(reason) => reason.into(),
            };
            if self.token.is_cancelled() {
                // The shutdown ended the connection: neither warn nor retry.
                return std::future::pending().await;
            }
            failures += 1;
            let delay = whole_milliseconds(reconnect.backoff().delay(failures, fastrand::f64()));
            let earliest_attempt = attempted + reconnect.initial_delay;
            self.publish_down(&reason, delay, attempts, earliest_attempt);
            self.wait_to_retry(delay, earliest_attempt).await;
        }
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        Connection::connect(
            &self.settings,
            (&self.target, &mut self.resolver),
            &self.tls,
            &self.tracker,
            &self.token,
        )
        .await
    }

    /// Publishes the connection until it ends, rotating it on request. Returns the reason of its
    /// end.
    async fn serve(&mut self, mut connection: Connection) -> Arc<str> {
        let backoff = self.settings.reconnect.backoff();
        let mut failures = 0;
        let mut rotate_at = None;
        self.publish_connected(&connection);
        loop {
            tokio::select! {
                reason = connection.closed() => return reason,
                () = self.requests.rotate.notified() => {}
                () = sleep_until(rotate_at) => {}
            }
            match self.connect().await {
                Ok(new) => {
                    self.log_established("portal connection rotated");
                    connection = new;
                    self.publish_connected(&connection);
                    failures = 0;
                    rotate_at = None;
                }
                Err(reason) => {
                    failures += 1;
                    let delay = backoff.delay(failures, fastrand::f64());
                    if self.purpose == Purpose::Logins {
                        tracing::warn!(
                            "could not rotate the portal connection, keeping the old one: {reason}"
                        );
                    }
                    rotate_at = Some(clock::now() + delay);
                }
            }
        }
    }

    fn log_established(&self, message: &str) {
        let address = &self.settings.address;
        match self.purpose {
            Purpose::Logins => tracing::info!(%address, "{message}"),
            // Another text: whoever waits for the portal in the log waits for logins.
            Purpose::Background => tracing::debug!(%address, "connection for events is established"),
        }
    }

    fn publish_connected(&self, connection: &Connection) {
        self.phase.send_replace(Phase::Connected(connection.clone()));
        self.state.send_replace(ConnectionState::Connected);
    }

    fn publish_down(&mut self, reason: &Arc<str>, delay: Duration, attempts: u64, earliest_attempt: Instant) {
        let address = &self.settings.address;
        let is_known = self.logged.as_ref() == Some(reason);
        if is_known || self.purpose == Purpose::Background {
            tracing::debug!(%address, attempts, "portal still not connected, next attempt in {delay:?}: {reason}");
        } else {
            tracing::warn!(%address, attempts, "portal not connected, next attempt in {delay:?}: {reason}");
            self.logged = Some(Arc::clone(reason));
        }
        self.phase.send_replace(Phase::Down {
            reason: Arc::clone(reason),
            attempts,
            earliest_attempt,
        });
        self.state.send_replace(ConnectionState::Down {
            reason: Arc::clone(reason),
            retry_at: clock::now() + delay,
        });
    }

    /// Waits out `delay`, or less: until a rotation is requested, or until a call requests an
    /// attempt and `earliest_attempt` has passed.
    async fn wait_to_retry(&self, delay: Duration, earliest_attempt: Instant) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.requests.rotate.notified() => {}
            () = async {
                self.requests.connect.notified().await;
                tokio::time::sleep_until(earliest_attempt).await;
            } => {}
        }
    }
}

/// Truncates a delay to what reads well in a log line.
fn whole_milliseconds(delay: Duration) -> Duration {
    Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

/// Sleeps until `deadline`, forever without one.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
