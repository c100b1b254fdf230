//! Support for the `terminate` requests of ocserv 1.4.2.

use std::sync::{Mutex, MutexGuard, PoisonError};

use occtl::{ControlError, ControlSocket};

/// Identifies one run of ocserv: the main process's pid and start time.
type Start = (u32, u64);

/// Caches whether the latest ocserv supports `terminate`.
#[derive(Debug, Default)]
pub(crate) struct TerminateSupport(Mutex<Option<(Start, bool)>>);

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
        let status = control.status().await?;
        let start = status.main_pid.zip(status.started_at);
        let cached = *self.cached();
        if let Some((_, supported)) = cached.filter(|(cached, _)| Some(*cached) == start) {
            return Ok(supported);
        }
        let supported = control.supports_terminate().await?;
        *self.cached() = start.map(|start| (start, supported));
        Ok(supported)
    }

    fn cached(&self) -> MutexGuard<'_, Option<(Start, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
