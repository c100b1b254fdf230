//! The jobs about sessions, and the queues between them.

use std::sync::Arc;

use ocserv::Ocserv;
use tokio::sync::{mpsc, oneshot};

use super::build::Context;
use crate::config::Config;
use crate::jobs::persist_events::StoredRows;
use crate::jobs::reconcile::{ReconcileSettings, Reconciler};
use crate::jobs::validate_sessions::{DisconnectDemand, SessionValidator, SessionsPass};
use crate::operations::record_session::SessionRecorder;
use crate::operations::resync::ValidationRequest;

/// Most sessions whose end the portal demands that wait; it demands the others again.
const MAX_DEMANDS: usize = 1_024;

/// The jobs about sessions, before they run.
pub(super) struct SessionJobs {
    reconciler: Reconciler,
    passes: mpsc::Receiver<SessionsPass>,
    demands: mpsc::Receiver<DisconnectDemand>,
}

impl SessionJobs {
    /// Takes over the sessions of an earlier run, and compares with ocserv's list once. The sender
    /// is for what the portal demands.
    pub(super) async fn prepare(
        config: &Config,
        ocserv: &Ocserv,
        recorder: &Arc<SessionRecorder>,
        stored: Option<oneshot::Receiver<StoredRows>>,
    ) -> (Self, mpsc::Sender<DisconnectDemand>) {
        let settings = ReconcileSettings {
            poll_interval: config.ocserv.poll_interval.0,
            sync_interval: config.sessions.sync_interval.0,
            ttl: config.sessions.ttl.0,
            idle_after: config.sessions.idle_after.0,
        };
        let (sender, passes) = mpsc::channel(1);
        let (demand, demands) = mpsc::channel(MAX_DEMANDS);
        let mut reconciler = Reconciler::new(ocserv.clone(), Arc::clone(recorder), stored, settings, sender);
        reconciler.start().await;
        let jobs = Self {
            reconciler,
            passes,
            demands,
        };
        (jobs, demand)
    }

    /// Runs the jobs. `requests` are for a pass over all sessions at once.
    pub(super) fn start(self, validator: SessionValidator, requests: ValidationRequest, context: &Context) {
        let (group, background) = (&context.stages.calls, &context.background);
        let stop = || group.stop.clone();
        let obey = validator.clone().obey(self.demands, stop());
        group.spawn_on(background, obey);
        let validate = validator.run(self.passes, group.tasks.clone(), stop());
        group.spawn_on(background, validate);
        let reconcile = self
            .reconciler
            .run(requests, context.notifications.clone(), stop());
        group.spawn_on(background, reconcile);
    }
}
