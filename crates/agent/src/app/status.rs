//! What `/metrics` and `/readyz` show of the running agent.

use std::sync::Arc;

use portal::AgentHealth;
use resilience::FailMode;
use telemetry::{Endpoints, Readiness};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::watchdog::Stalled;
use crate::metrics::Metrics;
use crate::operations::drain::DrainState;
use crate::operations::refused_reloads::RefusedReloads;
use crate::operations::runtime_switches::RuntimeSwitches;
use crate::operations::shared_outbox::SharedOutbox;
use crate::operations::store_status::StoreStatus;

/// Brings the metrics of one part up to date; called for each scrape.
pub(super) type Refresh = Box<dyn Fn() + Send + Sync>;

/// The inputs of `/readyz`.
pub(super) struct ReadinessCheck {
    /// Whether the portal is connected; `None` without a portal.
    pub(super) connected: Option<watch::Receiver<bool>>,
    pub(super) switches: RuntimeSwitches,
    pub(super) drain: DrainState,
    /// The decision store and the event store; empty where there is nothing to store.
    pub(super) stores: Vec<StoreStatus>,
    pub(super) outbox: SharedOutbox,
    pub(super) refused: RefusedReloads,
    /// Cancelled when the shutdown begins.
    pub(super) draining: CancellationToken,
}

impl ReadinessCheck {
    /// The agent is not ready when it cannot decide logins as configured. The modes `open` and
    /// `stale` are meant for a portal that is gone; with `close` every login is then denied.
    pub(super) fn check(&self) -> Readiness {
        let disconnected = self
            .connected
            .as_ref()
            .is_some_and(|connected| !*connected.borrow());
        if self.draining.is_cancelled() {
            Readiness::NotReady("the agent is stopping".to_owned())
        } else if self.drain.is_draining() {
            Readiness::NotReady("draining: the portal took this agent out of service".to_owned())
        } else if disconnected && self.switches.fail_mode() == FailMode::Close {
            Readiness::NotReady("the portal is not connected, and the fail mode is close".to_owned())
        } else {
            let problems = self.problems();
            if problems.is_empty() {
                Readiness::Ready
            } else {
                Readiness::Degraded(problems.join("; "))
            }
        }
    }

    /// What does not work although logins are decided as configured.
    fn problems(&self) -> Vec<String> {
        let failed = self.stores.iter().filter_map(StoreStatus::failure);
        failed
            .chain(self.lost_events())
            .chain(self.refused.problems())
            .chain(self.switches.sentences())
            .collect()
    }

    /// That the bounds of the outbox have dropped events since the start.
    fn lost_events(&self) -> Option<String> {
        let dropped = self.outbox.stats().dropped;
        let lost = dropped.connects + dropped.disconnects + dropped.damaged;
        (lost > 0).then(|| format!("{lost} events for the portal are lost"))
    }

    /// The health that the portal is told, while ocserv runs.
    pub(super) fn health(&self) -> AgentHealth {
        match self.check() {
            Readiness::Ready => AgentHealth::Healthy,
            Readiness::Degraded(_) => AgentHealth::Degraded,
            // Logins are decided meanwhile.
            Readiness::NotReady(_) if self.drain.is_draining() => AgentHealth::Degraded,
            Readiness::NotReady(_) => AgentHealth::Unhealthy,
        }
    }
}

/// The pages of an agent whose parts are refreshed by `refreshes`.
pub(super) fn pages(
    metrics: &Metrics,
    stalled: Option<Stalled>,
    readiness: Arc<ReadinessCheck>,
    refreshes: Vec<Refresh>,
) -> Endpoints {
    let stalled = move || stalled.as_ref().and_then(|state| *state.borrow());
    Endpoints {
        stalled: Box::new(move || stalled().map(str::to_owned)),
        registry: metrics.registry(),
        refresh: Box::new(move || refreshes.iter().for_each(|refresh| refresh())),
        readiness: Box::new(move || readiness.check()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::live::Live;
    use crate::operations::notifications::Notifications;
    use crate::operations::refused_reloads::Reloaded;
    use crate::operations::role::Role;
    use crate::operations::runtime_switches::FailModeRules;

    fn switches(configured: FailMode) -> RuntimeSwitches {
        let rules = Live::fixed(FailModeRules {
            configured,
            open_permitted: true,
            portal_role: Role::Admin,
        });
        let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
        RuntimeSwitches::new(authorizer, rules, Notifications::default())
    }

    #[tokio::test]
    async fn an_agent_whose_decision_store_fails_is_ready_and_names_it() {
        let store = StoreStatus::new("the decision store");
        let (_portal, connected) = watch::channel(false);
        let mut check = ReadinessCheck {
            connected: Some(connected),
            switches: switches(FailMode::Stale),
            drain: DrainState::default(),
            stores: vec![store.clone()],
            outbox: SharedOutbox::without_disk(),
            refused: RefusedReloads::default(),
            draining: CancellationToken::new(),
        };
        assert_eq!(check.check(), Readiness::Ready);
        store.set_problem("no space".to_owned());
        let Readiness::Degraded(problem) = check.check() else {
            panic!("{:?}", check.check());
        };
        assert_eq!(problem, "the decision store does not work: no space");
        check
            .refused
            .set(Reloaded::Policy, Some("policy.toml:2".to_owned()));
        assert_eq!(
            check.check(),
            Readiness::Degraded(
                "the decision store does not work: no space; \
                 the policy file was refused, the last good policy is in effect: policy.toml:2"
                    .to_owned()
            )
        );
        check.refused.set(Reloaded::Policy, None);
        check.switches = switches(FailMode::Close);
        assert!(matches!(check.check(), Readiness::NotReady(_)), "that is worse");
        check.switches = switches(FailMode::Stale);
        store.set_stored(0);
        assert_eq!(check.check(), Readiness::Ready);
    }
}
