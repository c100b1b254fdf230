//! Notifies systemd (sd_notify) of the state of the service; without systemd it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Added to the time that systemd is asked to wait for a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// What systemd has given to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// It expects notifications of the state of the service.
    pub notify: bool,
    /// It reads standard error as its journal.
    pub journal: bool,
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "could not notify systemd");
    }
}

pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// The time within which systemd expects [`alive`], where the unit has `WatchdogSec=`.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

pub(super) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

pub(super) fn reloading() {
    let Ok(since) = NotifyState::monotonic_usec_now() else {
        return;
    };
    notify(&[NotifyState::Reloading, since]);
}

/// Announces a shutdown; systemd waits `limit` and 5 s where the unit has a shorter timeout.
pub(super) fn stopping(status: &str, limit: Duration) {
    let timeout = u32::try_from((limit + GRACE).as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(timeout),
        NotifyState::Status(&line(status)),
    ]);
}

/// A message consists of lines: a status must be one.
fn line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}
