//! What systemd is told, when it is there.

use std::time::Duration;

use sd_notify::NotifyState;

/// How much longer than a stop may take systemd is asked to wait.
const GRACE: Duration = Duration::from_secs(5);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "could not tell systemd");
    }
}

pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

pub(super) fn reloading() {
    let Ok(since) = NotifyState::monotonic_usec_now() else {
        return;
    };
    tell(&[NotifyState::Reloading, since]);
}

/// systemd waits `within` and a little more, if that is longer than what the unit says.
pub(super) fn stopping(status: &str, within: Duration) {
    let patience = u32::try_from((within + GRACE).as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(patience),
        NotifyState::Status(&line(status)),
    ]);
}

/// A message is lines of assignments: a status must not be two of them.
fn line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}
