//! Checks that the login thread serves, and tells systemd and `/livez`.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::build::Context;
use super::systemd;
use crate::clock;
use crate::ipc::{Ping, Pong};

/// Longest time between two checks, and longest wait for the answer of one. Each wakes an idle
/// process.
const MAX_INTERVAL: Duration = Duration::from_secs(10);
/// Checks within the time after which systemd ends the process.
const CHECKS_PER_LIMIT: u32 = 3;

/// Why the login thread does not serve; `None` while it does.
pub(super) type Stalled = watch::Receiver<Option<&'static str>>;

/// Pings the IPC socket.
struct Watchdog {
    ping: Ping,
    /// Whether systemd holds the socket: then a restart would not bring it back.
    inherited: bool,
    /// Whether systemd expects notifications.
    is_supervised: bool,
    interval: Duration,
    stalled: watch::Sender<Option<&'static str>>,
}

impl Context {
    /// Starts to check that the login thread serves. `inherited`: systemd holds the socket.
    pub(super) fn start_watchdog(&self, ping: Ping, inherited: bool) -> Stalled {
        let (watchdog, stalled) = Watchdog::new(ping, inherited);
        let process = &self.stages.process;
        process.spawn_on(&self.background, watchdog.run(process.stop.clone()));
        stalled
    }
}

impl Watchdog {
    fn new(ping: Ping, inherited: bool) -> (Self, Stalled) {
        let limit = systemd::watchdog().map(|limit| limit / CHECKS_PER_LIMIT);
        let (stalled, state) = watch::channel(None);
        let watchdog = Self {
            ping,
            inherited,
            is_supervised: limit.is_some(),
            interval: limit.map_or(MAX_INTERVAL, |limit| limit.min(MAX_INTERVAL)),
            stalled,
        };
        (watchdog, state)
    }

    /// Checks until `stop`. Without its notifications systemd ends the process.
    async fn run(self, stop: CancellationToken) {
        let check = async || {
            self.check().await;
            clock::tick(self.interval).await;
        };
        while stop.run_until_cancelled(check()).await.is_some() {}
    }

    async fn check(&self) {
        let stalled = match self.ping.send(self.interval).await {
            Pong::Served => None,
            Pong::Silent => Some("the login thread does not answer"),
            Pong::Unreachable(error) => {
                tracing::error!(%error, "the IPC socket is not reachable: no login is decided");
                (!self.inherited).then_some("the IPC socket is not reachable")
            }
        };
        if stalled.is_none() && self.is_supervised {
            systemd::alive();
        }
        let before = self.stalled.send_replace(stalled);
        match (before, stalled) {
            (None, Some(problem)) => tracing::error!(problem, "logins are not served"),
            (Some(_), None) => tracing::info!("logins are served again"),
            _ => {}
        }
    }
}
