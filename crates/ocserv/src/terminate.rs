//! Support for the `terminate` requests of ocserv 1.4.2.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use occtl::{ControlError, ControlSocket};

/// Identifies one run of ocserv: the device, inode and time of change (seconds, nanoseconds) of its
/// control socket, which ocserv creates anew at each start.
type Run = (u64, u64, i64, i64);

/// Caches whether the running ocserv supports `terminate`.
#[derive(Debug, Default)]
pub(crate) struct TerminateSupport(Mutex<Option<(Run, bool)>>);

impl TerminateSupport {
    /// Returns whether the ocserv behind `control` supports `terminate`. Probes once per start of
    /// ocserv, because an ocserv without support logs an error. `reports_session_start` is the hint
    /// of [`occtl::reports_session_start`]: an ocserv that does not is older and is not probed.
    pub(crate) async fn check(
        &self,
        control: &ControlSocket,
        reports_session_start: Option<bool>,
    ) -> Result<bool, ControlError> {
        if reports_session_start == Some(false) {
            return Ok(false);
        }
        // Before the probe: a restart in between is noticed by the next check.
        let run = run(control).await;
        let cached = *self.cached();
        if let Some((_, supported)) = cached.filter(|(cached, _)| Some(*cached) == run) {
            return Ok(supported);
        }
        let supported = control.supports_terminate().await?;
        *self.cached() = run.map(|run| (run, supported));
        Ok(supported)
    }

    fn cached(&self) -> MutexGuard<'_, Option<(Run, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns which run of ocserv is behind `control`; `None` when it has no socket.
async fn run(control: &ControlSocket) -> Option<Run> {
    let file = tokio::fs::metadata(control.path()).await.ok()?;
    Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}
