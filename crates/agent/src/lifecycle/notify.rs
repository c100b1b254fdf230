//! What systemd is told, when it is there.

use sd_notify::NotifyState;

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

pub(super) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&line(status))]);
}

/// A message is lines of assignments: a status must not be two of them.
fn line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}
