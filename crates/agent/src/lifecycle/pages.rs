//! What `/metrics` and `/readyz` show of a running agent.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use authz::Authorizer;
use resilience::FailMode;
use telemetry::{Pages, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ipc_server::Counts;
use crate::metrics::{Metrics, Snapshot};
use crate::operations::record_session::SessionRecorder;
use crate::operations::shared_outbox::SharedOutbox;

/// Where a running agent is looked at.
#[derive(Clone)]
pub(super) struct Status {
    pub(super) recorder: Arc<SessionRecorder>,
    /// Whether the portal is connected; `None` where there is none.
    pub(super) connected: Option<watch::Receiver<bool>>,
    pub(super) authorizer: Authorizer,
    pub(super) fail_mode: Arc<ArcSwapOption<FailMode>>,
    pub(super) outbox: SharedOutbox,
    pub(super) ipc: Arc<Counts>,
    pub(super) draining: CancellationToken,
}

impl Status {
    pub(super) fn set_fail_mode(&self, mode: FailMode) {
        self.fail_mode.store(Some(Arc::new(mode)));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            sessions: self.recorder.live_count(),
            portal_connected: self
                .connected
                .as_ref()
                .is_some_and(|connected| *connected.borrow()),
            pipeline: self.authorizer.stats(),
            events: self.outbox.stats(),
            overloaded: self.ipc.overloaded(),
            bad_requests: self.ipc.bad_requests(),
            accept_errors: self.ipc.accept_errors(),
            refused_peers: self.ipc.refused_peers(),
        }
    }

    /// Not ready is who cannot decide logins as configured. A portal that is gone is what `open` and `stale` are for;
    /// with `close` nobody gets in then.
    fn readiness(&self) -> Readiness {
        let gone = self
            .connected
            .as_ref()
            .is_some_and(|connected| !*connected.borrow());
        if self.draining.is_cancelled() {
            Readiness::NotReady("the agent is stopping".to_owned())
        } else if gone && self.fail_mode.load().as_deref() == Some(&FailMode::Close) {
            Readiness::NotReady("the portal is not connected, and the fail mode is close".to_owned())
        } else {
            Readiness::Ready
        }
    }
}

/// The pages of an agent.
pub(super) fn pages(status: Status, metrics: Metrics) -> Pages {
    let looked_at = status.clone();
    Pages {
        registry: metrics.registry(),
        refresh: Box::new(move || metrics.refresh(&looked_at.snapshot())),
        readiness: Box::new(move || status.readiness()),
    }
}
