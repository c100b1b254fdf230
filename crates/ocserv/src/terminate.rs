//! Whether ocserv knows the `terminate` requests of 1.4.2.

use std::sync::{Mutex, MutexGuard, PoisonError};

use occtl::{ControlError, ControlSocket};

/// One start of ocserv: the main process's pid and its start time.
type Start = (u32, u64);

/// The answer of the ocserv that was asked last.
#[derive(Debug, Default)]
pub(crate) struct TerminateSupport(Mutex<Option<(Start, bool)>>);

impl TerminateSupport {
    /// Returns whether the ocserv behind `control` knows `terminate`. Asks once per start of
    /// ocserv, because one that does not know the request writes an error to its log.
    /// `reports_session_start` is the hint of [`occtl::reports_session_start`]: an ocserv that does
    /// not is older and is not asked.
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
