//! Compares the sessions with ocserv's list now, and validates each.

use std::sync::Arc;

use occtl::ControlError;
use ocserv::Ocserv;
use tokio::sync::Notify;

/// Requests a pass of the session validation; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ValidationRequest(Arc<Notify>);

impl ValidationRequest {
    /// Waits for a request. For the job.
    pub(crate) async fn requested(&self) {
        self.0.notified().await;
    }
}

/// Resynchronizes with ocserv; clones share everything.
#[derive(Clone)]
pub(crate) struct Resync {
    ocserv: Ocserv,
    validation: ValidationRequest,
}

impl Resync {
    pub(crate) fn new(ocserv: Ocserv, validation: ValidationRequest) -> Self {
        Self { ocserv, validation }
    }

    /// Lists the sessions and starts their validation; returns how many there are.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub(crate) async fn run(&self) -> Result<usize, ControlError> {
        let sessions = self.ocserv.sessions().await?.len();
        self.validation.0.notify_one();
        Ok(sessions)
    }
}
