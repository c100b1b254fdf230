//! Serves what the parts of the running agent show: metrics, liveness, readiness.

use std::sync::Arc;

use authz::Authorizer;
use portal::ControlSender;
use telemetry::DroppedLines;
use tokio::sync::watch;

use super::build::Context;
use super::control::RuntimeState;
use super::status::{ReadinessCheck, Refresh, pages};
use super::watchdog::Stalled;
use crate::clock;
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;
use crate::operations::refused_reloads::Reloaded;
use crate::operations::shared_outbox::SharedOutbox;
use crate::operations::store_status::StoreStatus;
use crate::retrying_listener::RetryingListener;

/// What the HTTP endpoints show.
pub(super) struct ObservedParts {
    pub(super) recorder: Arc<SessionRecorder>,
    pub(super) authorizer: Authorizer,
    pub(super) outbox: SharedOutbox,
    /// Whether the portal is connected; `None` without a portal.
    pub(super) connected: Option<watch::Receiver<bool>>,
    /// `None` where decisions are not stored.
    pub(super) store: Option<StoreStatus>,
    pub(super) dropped_lines: Option<DroppedLines>,
    /// `None` without a control stream.
    pub(super) control: Option<ControlSender>,
    pub(super) state: RuntimeState,
}

impl Context {
    pub(super) fn readiness(&self, parts: &ObservedParts) -> Arc<ReadinessCheck> {
        Arc::new(ReadinessCheck {
            connected: parts.connected.clone(),
            switches: parts.state.switches.clone(),
            drain: parts.state.drain.clone(),
            stores: Self::stores(parts),
            outbox: parts.outbox.clone(),
            refused: self.refused.clone(),
            draining: self.stages.logins.stop.clone(),
        })
    }

    pub(super) fn start_http(
        &self,
        port: RetryingListener,
        stalled: Option<Stalled>,
        parts: &ObservedParts,
        readiness: Arc<ReadinessCheck>,
    ) {
        let has_portal = parts.connected.is_some();
        let refreshes: Vec<Refresh> = vec![
            self.refresh(&parts.recorder, |metrics, recorder| {
                metrics.set_sessions(recorder.live_count());
            }),
            self.refresh(&parts.outbox, move |metrics, outbox| {
                metrics.set_outbox(&outbox.stats(), clock::wall());
                if has_portal {
                    metrics.set_event_store_up(outbox.status().problem().is_none());
                }
            }),
            self.refresh(&parts.authorizer, |metrics, authorizer| {
                let stats = authorizer.stats();
                metrics.set_breaker(stats.breaker_state, &stats.breaker);
                metrics.set_cache(&stats.cache);
            }),
            self.refresh(&parts.connected, |metrics, connected| {
                // Without a portal there is no such metric: nothing is disconnected.
                if let Some(connected) = connected {
                    metrics.set_portal_connected(*connected.borrow());
                }
            }),
            self.refresh(&parts.control, |metrics, control| {
                if let Some(control) = control {
                    metrics.set_control_stream(&control.stats());
                }
            }),
            self.refresh(&parts.state, |metrics, state| {
                let (switches, active) = (&state.switches, state.switches.active());
                let is_switched = active.fail_mode.is_some();
                metrics.set_switches(switches.fail_mode(), is_switched, active.force_online.is_some());
                metrics.set_draining(state.drain.is_draining());
            }),
            self.refresh(&parts.dropped_lines, |metrics, lines| {
                if let Some(lines) = lines {
                    metrics.set_log_lines_dropped(lines.count());
                }
            }),
            self.refresh(&parts.store, |metrics, store| {
                if let Some(store) = store {
                    metrics.set_decision_store_up(store.problem().is_none());
                }
            }),
            self.refresh(&self.refused, |metrics, refused| {
                for what in Reloaded::ALL {
                    metrics.set_reload_failed(what.label(), refused.is_refused(what));
                }
            }),
        ];
        let pages = pages(&self.metrics, stalled, readiness, refreshes);
        let process = &self.stages.process;
        let (tasks, stop) = (process.tasks.clone(), process.stop.clone());
        process.spawn_on(&self.background, async move {
            if let Some(listener) = port.wait(&stop).await {
                telemetry::serve(listener, pages, tasks, stop).await;
            }
        });
    }

    /// The stores that `/readyz` shows.
    fn stores(parts: &ObservedParts) -> Vec<StoreStatus> {
        let events = parts.connected.as_ref().map(|_| parts.outbox.status().clone());
        parts.store.clone().into_iter().chain(events).collect()
    }

    /// Brings the metrics of `part` up to date for a scrape.
    fn refresh<T: Clone + Send + Sync + 'static>(
        &self,
        part: &T,
        show: impl Fn(&Metrics, &T) + Send + Sync + 'static,
    ) -> Refresh {
        let (metrics, part) = (self.metrics.clone(), part.clone());
        Box::new(move || show(&metrics, &part))
    }
}
