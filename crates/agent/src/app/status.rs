//! What `/metrics` and `/readyz` show of the running agent.

use resilience::FailMode;
use telemetry::{Endpoints, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::live::Live;
use crate::metrics::Metrics;

/// Brings the metrics of one part up to date; called for each scrape.
pub(super) type Refresh = Box<dyn Fn() + Send + Sync>;

/// The inputs of `/readyz`.
pub(super) struct ReadinessCheck {
    /// Whether the portal is connected; `None` without a portal.
    pub(super) connected: Option<watch::Receiver<bool>>,
    pub(super) fail_mode: Live<FailMode>,
    /// Cancelled when the shutdown begins.
    pub(super) draining: CancellationToken,
}

impl ReadinessCheck {
    /// The agent is not ready when it cannot decide logins as configured. The modes `open` and
    /// `stale` are meant for a portal that is gone; with `close` every login is then denied.
    fn check(&self) -> Readiness {
        let disconnected = self
            .connected
            .as_ref()
            .is_some_and(|connected| !*connected.borrow());
        if self.draining.is_cancelled() {
            Readiness::NotReady("the agent is stopping".to_owned())
        } else if disconnected && *self.fail_mode.current() == FailMode::Close {
            Readiness::NotReady("the portal is not connected, and the fail mode is close".to_owned())
        } else {
            Readiness::Ready
        }
    }
}

/// The pages of an agent whose parts are refreshed by `refreshes`.
pub(super) fn pages(metrics: &Metrics, readiness: ReadinessCheck, refreshes: Vec<Refresh>) -> Endpoints {
    Endpoints {
        registry: metrics.registry(),
        refresh: Box::new(move || refreshes.iter().for_each(|refresh| refresh())),
        readiness: Box::new(move || readiness.check()),
    }
}
