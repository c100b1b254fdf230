//! The task that keeps the connection up, and the handle that others hold of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dial::Lookup;
use crate::link::Link;
use crate::settings::{Settings, SettingsError, Target};

/// How it stands with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// An attempt is under way.
    Connecting,
    /// The portal has spoken to us over a connection that both sides accepted.
    Connected,
    /// There is none.
    Down {
        /// Why, in plain words.
        reason: Arc<str>,
        /// When the next attempt is due at the latest.
        retry_at: Instant,
    },
    /// The client was told to stop; nothing will come after this.
    Stopped,
}

impl ConnectionState {
    /// Whether calls have a connection to go over.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// The same for those who make calls.
#[derive(Clone)]
enum Phase {
    Connecting,
    Up(Link),
    Down {
        reason: Arc<str>,
        /// How many attempts there have been.
        attempts: u64,
        /// Before this, a waiting call may not bring about another attempt.
        urgeable_at: Instant,
    },
    Stopped,
}

/// A handle of the portal; clones share one connection.
#[derive(Clone)]
pub struct Portal(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    phase: watch::Receiver<Phase>,
    state: watch::Receiver<ConnectionState>,
    urge: Arc<Notify>,
    renew: Arc<Notify>,
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("address", &self.0.settings.address)
            .field("state", &*self.0.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Portal {
    /// Starts to connect, in tasks of `tracker`, and keeps at it until `token` is cancelled; that also breaks what is
    /// under way. Returns at once.
    ///
    /// # Errors
    /// When the address cannot be dialled, whatever the network does.
    pub fn start(
        settings: Settings,
        tls: tls::ClientTls,
        tracker: &TaskTracker,
        token: CancellationToken,
    ) -> Result<Self, SettingsError> {
        let target = Target::of(&settings)?;
        let (phase_sender, phase) = watch::channel(Phase::Connecting);
        let (state_sender, state) = watch::channel(ConnectionState::Connecting);
        let (urge, renew) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let owner = Owner {
            settings: settings.clone(),
            lookup: Lookup::new(&target),
            target,
            tls,
            tracker: tracker.clone(),
            token,
            phase: phase_sender,
            state: state_sender,
            urge: Arc::clone(&urge),
            renew: Arc::clone(&renew),
            logged: None,
        };
        tracker.spawn(owner.run());
        Ok(Self(Arc::new(Shared {
            settings,
            phase,
            state,
            urge,
            renew,
        })))
    }

    /// How it stands with the connection, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.0.state.clone()
    }

    /// Asks for a new connection, with the certificates of now; for after a reload. The old one serves until the new
    /// one is up, and what is under way on it finishes there.
    pub fn reconnect(&self) {
        self.0.renew.notify_one();
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The connection, or why there is none. Waits for an attempt that is under way. With `urge`, brings one about
    /// unless the last was too short a time ago, and waits for that; the caller bounds the wait.
    pub(crate) async fn link(&self, urge: bool) -> Result<Link, Arc<str>> {
        let mut phase = self.0.phase.clone();
        let mut urged_after = None;
        loop {
            let current = phase.borrow_and_update().clone();
            match current {
                Phase::Up(link) if !link.is_over() => return Ok(link),
                // The owner is about to say more.
                Phase::Up(_) | Phase::Connecting => {}
                Phase::Stopped => return Err("the client stopped".into()),
                Phase::Down {
                    reason,
                    attempts,
                    urgeable_at,
                } => {
                    let failed_for_us = urged_after.is_some_and(|before| attempts > before);
                    if !urge || failed_for_us || Instant::now() < urgeable_at {
                        return Err(reason);
                    }
                    urged_after = Some(attempts);
                    self.0.urge.notify_one();
                }
            }
            if phase.changed().await.is_err() {
                return Err("the client stopped".into());
            }
        }
    }
}

struct Owner {
    settings: Settings,
    target: Target,
    lookup: Lookup,
    tls: tls::ClientTls,
    tracker: TaskTracker,
    token: CancellationToken,
    phase: watch::Sender<Phase>,
    state: watch::Sender<ConnectionState>,
    urge: Arc<Notify>,
    renew: Arc<Notify>,
    /// The reason that the log gave last for being down.
    logged: Option<Arc<str>>,
}

impl Owner {
    async fn run(mut self) {
        let token = self.token.clone();
        tokio::select! {
            () = token.cancelled() => {}
            () = self.keep_up() => {}
        }
        self.state.send_replace(ConnectionState::Stopped);
        self.phase.send_replace(Phase::Stopped);
    }

    /// Never ends by itself.
    async fn keep_up(&mut self) {
        let backoff = self.settings.reconnect.backoff();
        let (mut attempts, mut failures) = (0, 0);
        loop {
            self.state.send_replace(ConnectionState::Connecting);
            self.phase.send_replace(Phase::Connecting);
            let outcome = self.connect().await;
            let attempted = Instant::now();
            attempts += 1;
            let reason = match outcome {
                Ok(link) => {
                    self.logged = None;
                    tracing::info!(address = %self.settings.address, "portal connected");
                    let reason = self.hold(link).await;
                    // A full round of keepalive shows a connection that works. One that ends sooner counts as a
                    // failure, so that a portal that accepts and drops at once is not hammered.
                    if attempted.elapsed()
                        >= self.settings.keepalive_interval + self.settings.keepalive_timeout
                    {
                        failures = 0;
                    }
                    reason
                }
                Err(reason) => reason.into(),
            };
            if self.token.is_cancelled() {
                // A connection that we end ourselves is nothing to warn of, and no attempt follows.
                return std::future::pending().await;
            }
            failures += 1;
            let delay = whole_milliseconds(backoff.delay(failures, fastrand::f64()));
            self.down(
                &reason,
                delay,
                attempts,
                attempted + self.settings.reconnect.initial_delay,
            );
            self.pause(delay, attempted + self.settings.reconnect.initial_delay)
                .await;
        }
    }

    async fn connect(&mut self) -> Result<Link, String> {
        Link::connect(
            &self.settings,
            (&self.target, &mut self.lookup),
            &self.tls,
            &self.tracker,
            &self.token,
        )
        .await
    }

    /// Offers the connection until it ends, renewing it when asked to. Says why it ended.
    async fn hold(&mut self, mut link: Link) -> Arc<str> {
        let backoff = self.settings.reconnect.backoff();
        let mut failures = 0;
        let mut renew_at = None;
        self.up(&link);
        loop {
            tokio::select! {
                reason = link.ended() => return reason,
                () = self.renew.notified() => {}
                () = until(renew_at) => {}
            }
            match self.connect().await {
                Ok(fresh) => {
                    tracing::info!(address = %self.settings.address, "portal connection renewed");
                    link = fresh;
                    self.up(&link);
                    failures = 0;
                    renew_at = None;
                }
                Err(reason) => {
                    failures += 1;
                    let delay = backoff.delay(failures, fastrand::f64());
                    tracing::warn!("could not renew the portal connection, the old one stays: {reason}");
                    renew_at = Some(Instant::now() + delay);
                }
            }
        }
    }

    fn up(&self, link: &Link) {
        self.phase.send_replace(Phase::Up(link.clone()));
        self.state.send_replace(ConnectionState::Connected);
    }

    fn down(&mut self, reason: &Arc<str>, delay: Duration, attempts: u64, urgeable_at: Instant) {
        let address = &self.settings.address;
        if self.logged.as_ref() == Some(reason) {
            tracing::debug!(%address, attempts, "portal still not connected, next attempt in {delay:?}: {reason}");
        } else {
            tracing::warn!(%address, attempts, "portal not connected, next attempt in {delay:?}: {reason}");
            self.logged = Some(Arc::clone(reason));
        }
        let (reason, retry_at) = (Arc::clone(reason), Instant::now() + delay);
        self.phase.send_replace(Phase::Down {
            reason: Arc::clone(&reason),
            attempts,
            urgeable_at,
        });
        self.state
            .send_replace(ConnectionState::Down { reason, retry_at });
    }

    /// Waits out the delay, or less: until a waiting call urges, but never before `urgeable_at`, or until someone asks
    /// for a new connection.
    async fn pause(&self, delay: Duration, urgeable_at: Instant) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.renew.notified() => {}
            () = async {
                self.urge.notified().await;
                tokio::time::sleep_until(urgeable_at).await;
            } => {}
        }
    }
}

/// A delay that reads well in a log line.
fn whole_milliseconds(delay: Duration) -> Duration {
    Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

/// Waits for a moment, for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
