//! Heartbeats and reports of metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use authz::Authorizer;
use ocserv::Ocserv;
use portal::{AgentHealth, ControlSender, Heartbeat, MetricsReport, OcservState};
use tokio_util::sync::CancellationToken;

use super::system::SystemMeter;
use crate::clock;
use crate::operations::notifications::Notifications;
use crate::operations::record_session::SessionRecorder;
use crate::operations::runtime_switches::RuntimeSwitches;
use crate::operations::shared_outbox::SharedOutbox;

/// Time between two reports of metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(60);

/// Where the reports take their values from.
pub(crate) struct ReportSources {
    /// The agent's own health.
    pub(crate) health: Box<dyn Fn() -> AgentHealth + Send + Sync>,
    pub(crate) ocserv: Ocserv,
    pub(crate) recorder: Arc<SessionRecorder>,
    pub(crate) authorizer: Authorizer,
    pub(crate) outbox: SharedOutbox,
    pub(crate) switches: RuntimeSwitches,
}

/// Sends the reports.
pub(crate) struct Reporter {
    pub(crate) sources: ReportSources,
    pub(crate) sender: ControlSender,
    pub(crate) notifications: Notifications,
    /// Time between two heartbeats.
    pub(crate) interval: Duration,
}

impl Reporter {
    /// Sends reports until `stop`. They tell a stream that is half open, too: what the portal's
    /// host does not acknowledge ends the connection.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut meter, mut dropped, mut streams) = (SystemMeter::default(), 0, 0);
        let mut until_metrics = Duration::ZERO;
        while stop
            .run_until_cancelled(clock::tick(self.interval))
            .await
            .is_some()
        {
            let total = self.sources.lost_events();
            if total > dropped {
                self.notifications.events_dropped(total);
                dropped = total;
            }
            let stats = self.sender.stats();
            if stats.unsupported {
                continue;
            }
            // Each stream begins with a report.
            if std::mem::replace(&mut streams, stats.streams) != stats.streams {
                until_metrics = Duration::ZERO;
            }
            let Some(ocserv) = stop.run_until_cancelled(self.sources.ocserv_state()).await else {
                return;
            };
            let system = meter.measure();
            self.sender.send_heartbeat(Heartbeat {
                health: self.sources.health(&ocserv),
                system,
                ocserv: ocserv.clone(),
            });
            until_metrics = until_metrics.saturating_sub(self.interval);
            if until_metrics.is_zero() {
                until_metrics = METRICS_INTERVAL;
                let custom = self.sources.custom_metrics();
                self.sender.send_metrics(MetricsReport {
                    system,
                    ocserv,
                    custom,
                });
            }
        }
    }
}

impl ReportSources {
    async fn ocserv_state(&self) -> OcservState {
        let Ok(status) = self.ocserv.status().await else {
            return OcservState::default();
        };
        let version = self.ocserv.version(&status).await;
        let kilobytes = |count: Option<u64>| count.unwrap_or_default().saturating_mul(1_000);
        let recorded = u32::try_from(self.recorder.live_count()).unwrap_or(u32::MAX);
        OcservState {
            is_running: true,
            version: version.as_deref().unwrap_or_default().to_owned(),
            sessions: status.connections.unwrap_or(recorded),
            bytes_in: kilobytes(status.kilobytes_in),
            bytes_out: kilobytes(status.kilobytes_out),
        }
    }

    fn health(&self, ocserv: &OcservState) -> AgentHealth {
        match ocserv.is_running {
            true => (self.health)(),
            false => AgentHealth::Unhealthy,
        }
    }

    /// Events about sessions that were lost since the start. A usage update is replaced by the next
    /// one.
    fn lost_events(&self) -> u64 {
        let dropped = self.outbox.stats().dropped;
        dropped.connects + dropped.disconnects + dropped.damaged
    }

    fn custom_metrics(&self) -> BTreeMap<&'static str, String> {
        let (outbox, authorizer) = (self.outbox.stats(), self.authorizer.stats());
        let active = self.switches.active();
        [
            ("outbox_depth", outbox.pending.to_string()),
            ("outbox_dropped", self.lost_events().to_string()),
            (
                "circuit_breaker_state",
                authorizer.breaker_state.as_str().to_owned(),
            ),
            ("queries_in_flight", authorizer.queries.to_string()),
            ("fail_mode", self.switches.fail_mode().to_string()),
            ("force_online", active.force_online.is_some().to_string()),
            ("sessions_recorded", self.recorder.live_count().to_string()),
        ]
        .into()
    }
}
