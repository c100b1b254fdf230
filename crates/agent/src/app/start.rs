//! Starts every part of the agent.

use std::sync::Arc;
use std::time::Duration;

use authz::Authorizer;
use ocserv::Ocserv;
use portal::{ConnectionState, Portal};
use resilience::Backoff;
use telemetry::DroppedLines;
use tls::ClientTls;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::announce::announce;
use super::build::{Agent, Context, PolicySetup};
use super::control::ControlParts;
use super::observe::ObservedParts;
use super::pipeline;
use super::reload::Reloader;
use super::session_jobs::SessionJobs;
use super::shutdown::Stages;
use super::signals::Signals;
use super::state_lock::StateLock;
use crate::clock;
use crate::config;
use crate::ipc;
use crate::jobs::deliver_events::{DeliveryLog, EventDelivery, report_to};
use crate::jobs::disconnect_denied_users::{DisconnectQueue, DisconnectRequests, disconnect_denied_users};
use crate::jobs::persist_decisions::DecisionPersistence;
use crate::jobs::persist_events::{EventPersistence, StoredRows};
use crate::jobs::sweep_decisions::sweep_decisions;
use crate::jobs::validate_sessions::{DisconnectDemand, SessionValidator};
use crate::jobs::watch_certificates::{Certificates, watch_certificates};
use crate::operations::Operations;
use crate::operations::authorize_login::LoginAuthorizer;
use crate::operations::list_decisions::RecentDecisions;
use crate::operations::list_events::EventQueue;
use crate::operations::policy_backend::PolicyBackend;
use crate::operations::record_session::SessionRecorder;
use crate::operations::request_reload::{ReloadRequests, RequestReload};
use crate::operations::shared_outbox::SharedOutbox;
use crate::operations::store_status::StoreStatus;

/// Time between two foldings of histograms.
const FOLD_INTERVAL: Duration = Duration::from_secs(30);

/// An agent that serves.
pub(super) struct Started {
    pub(super) stages: Stages,
    pub(super) outbox: SharedOutbox,
    /// `None` where decisions are not stored.
    pub(super) store: Option<StoreStatus>,
    /// Cancelled when the IPC server has ended, for whatever reason.
    pub(super) ipc_ended: CancellationToken,
    pub(super) reloader: Reloader,
    pub(super) signals: Signals,
    pub(super) lock: StateLock,
    pub(super) reloads: ReloadRequests,
}

/// Starts every part; reports to systemd that the agent is ready at the end.
pub(super) async fn start(agent: Agent, dropped_lines: Option<DroppedLines>) -> Started {
    let Agent {
        mut context,
        guard,
        source,
        signals,
        listener,
        policy,
        grpc,
        http,
        ocserv,
        recorder,
        outbox,
        events,
        lock,
        control,
    } = agent;
    guard.disarm();
    let config = context.config.current();
    let inherited = listener.is_inherited();
    let ping = listener.ping();
    let grpc_addr = grpc.as_ref().map(|grpc| grpc.server.local_addr());

    context.start_metrics_upkeep();
    let (policy, portal, persistence) = context.start_policy(policy);
    let store = persistence.as_ref().map(DecisionPersistence::status);
    let queue = events.as_ref().map(|(persistence, _)| persistence.queue());
    let certificates = Certificates {
        portal: portal.as_ref().map(|(_, tls)| tls.clone()),
        grpc: grpc.as_ref().map(|grpc| grpc.tls.clone()),
    };
    context.start_certificate_watch(certificates);
    let (disconnects, requests) = DisconnectQueue::new();
    let authorizer = context.start_authorizer(&policy, disconnects);
    context.start_persistence(&authorizer, persistence);
    let stored_sessions = context.start_event_persistence(events).await;
    let (session_jobs, demands) = SessionJobs::prepare(&config, &ocserv, &recorder, stored_sessions).await;
    let connected = portal
        .as_ref()
        .map(|(portal, _)| context.start_delivery(portal, &outbox, demands));
    let (reload, reloads) = RequestReload::new();
    let state = context.start_runtime_state(&authorizer, reload);
    let ipc_ended = context.start_ipc(listener, &authorizer, &recorder, &ocserv, queue);
    let parts = ObservedParts {
        recorder: Arc::clone(&recorder),
        authorizer: authorizer.clone(),
        outbox: outbox.clone(),
        connected,
        store: store.clone(),
        dropped_lines,
        control: control.clone(),
        state: state.clone(),
    };
    let stalled = ping.map(|ping| context.start_watchdog(ping, inherited));
    let readiness = context.readiness(&parts);
    context.start_http(http, stalled, &parts, Arc::clone(&readiness));
    let operations = Operations::new(&ocserv, &recorder, &authorizer, store.clone());
    context.start_disconnects(&operations, requests);
    if let (Some((portal, _)), Some(sender)) = (&portal, &control) {
        let parts = ControlParts {
            ocserv: &ocserv,
            recorder: &recorder,
            authorizer: &authorizer,
            outbox: &outbox,
            store: store.clone(),
            disconnect_user: operations.disconnect_user.clone(),
            readiness,
        };
        context.start_control(portal, sender, &state, parts);
    }
    let validator = SessionValidator {
        ocserv,
        recorder,
        policy,
        disconnect_user: operations.disconnect_user.clone(),
        metrics: context.metrics.clone(),
        interval: config.sessions.sync_interval.0,
    };
    session_jobs.start(validator, state.validation.clone(), &context);
    let grpc = grpc.map(|grpc| {
        let calls = &context.stages.calls;
        let serve = grpc
            .server
            .serve(operations, calls.tasks.clone(), calls.stop.clone());
        calls.spawn_on(&context.background, serve);
        grpc.tls
    });

    announce(&config, inherited, grpc_addr);
    Started {
        stages: context.stages,
        outbox,
        store,
        ipc_ended,
        reloader: Reloader {
            config: context.config,
            source,
            portal,
            grpc,
            refused: context.refused,
            notifications: context.notifications,
        },
        signals,
        lock,
        reloads,
    }
}

impl Context {
    /// Folds histograms regularly, whether or not `/metrics` is scraped.
    fn start_metrics_upkeep(&self) {
        let (registry, stop) = (self.metrics.registry(), self.stages.process.stop.clone());
        let fold = async move {
            while stop
                .run_until_cancelled(clock::tick(FOLD_INTERVAL))
                .await
                .is_some()
            {
                registry.fold_histograms();
            }
        };
        self.stages.process.spawn_on(&self.background, fold);
    }

    /// Logs certificates that expire soon, again after each reload.
    fn start_certificate_watch(&mut self, certificates: Certificates) {
        let (reloads, process) = (Arc::new(Notify::new()), &self.stages.process);
        let (metrics, stop) = (self.metrics.clone(), process.stop.clone());
        let watch = watch_certificates(certificates, metrics, Arc::clone(&reloads), stop);
        process.spawn_on(&self.background, watch);
        self.config.follow(move |_| reloads.notify_one());
    }

    /// Starts the policy source; returns the portal's client and the store of its decisions
    /// where there are.
    fn start_policy(
        &self,
        setup: PolicySetup,
    ) -> (
        PolicyBackend,
        Option<(Portal, ClientTls)>,
        Option<DecisionPersistence>,
    ) {
        match setup {
            PolicySetup::Portal(portal, tls, store) => (
                PolicyBackend::Portal(portal.clone()),
                Some((portal, tls)),
                Some(store),
            ),
            PolicySetup::Embedded(watch) => {
                let (process, policy) = (&self.stages.process, watch.current());
                process.spawn_on(&self.background, watch.run(process.stop.clone()));
                (PolicyBackend::Embedded(policy), None, None)
            }
        }
    }

    fn start_authorizer(&mut self, policy: &PolicyBackend, disconnects: DisconnectQueue) -> Authorizer {
        let config = self.config.current();
        let queries = &self.stages.queries;
        let authorizer = pipeline::build(
            &config,
            policy.clone(),
            &self.metrics,
            queries,
            disconnects,
            &self.notifications,
        );
        let configured = authorizer.clone();
        self.config
            .follow(move |config| configured.configure(pipeline::settings(config)));
        authorizer
    }

    /// Restores the decisions of an earlier run and persists new ones. The policy file needs
    /// neither: it answers from memory.
    fn start_persistence(&self, authorizer: &Authorizer, persistence: Option<DecisionPersistence>) {
        let storage = &self.stages.storage;
        let sweep = sweep_decisions(authorizer.clone(), storage.stop.clone());
        storage.spawn_on(&self.background, sweep);
        let Some(persistence) = persistence else {
            return;
        };
        authorizer.await_restore();
        let persist = persistence.run(authorizer.clone(), storage.stop.clone());
        storage.spawn_on(&self.background, persist);
    }

    /// Loads the events of an earlier run and writes new ones; returns its sessions, as soon as the
    /// disk has them.
    async fn start_event_persistence(
        &self,
        events: Option<(EventPersistence, oneshot::Receiver<StoredRows>)>,
    ) -> Option<oneshot::Receiver<StoredRows>> {
        let (mut persistence, rows) = events?;
        persistence.load().await;
        let storage = &self.stages.event_storage;
        storage.spawn_on(&self.background, persistence.run(storage.stop.clone()));
        Some(rows)
    }

    /// Starts the delivery of events; returns whether the portal is connected.
    fn start_delivery(
        &self,
        portal: &Portal,
        outbox: &SharedOutbox,
        demands: mpsc::Sender<DisconnectDemand>,
    ) -> watch::Receiver<bool> {
        let connected = self.watch_connected(portal.state());
        let background = self.watch_connected(portal.background_state());
        let delivery = EventDelivery {
            outbox: outbox.clone(),
            send: report_to(portal.clone(), self.metrics.clone(), demands),
            backoff: backoff(&self.config.current().portal.reconnect),
            connected: background,
            log: DeliveryLog::default(),
        };
        let group = &self.stages.delivery;
        group.spawn_on(&self.background, delivery.run(group.stop.clone()));
        connected
    }

    /// Whether the portal is connected, as a plain bool.
    fn watch_connected(&self, mut state: watch::Receiver<ConnectionState>) -> watch::Receiver<bool> {
        let (sender, connected) = watch::channel(state.borrow().is_connected());
        let failed = self.stages.process.failed.clone();
        self.stages.process.spawn_until_stop(async move {
            while state.changed().await.is_ok() {
                sender.send_replace(state.borrow_and_update().is_connected());
            }
            // Until the stop only a panic ends the client of the portal.
            failed.cancel();
        });
        connected
    }

    /// Starts the IPC server; the token is cancelled when it has ended.
    fn start_ipc(
        &self,
        listener: ipc::IpcListener,
        authorizer: &Authorizer,
        recorder: &Arc<SessionRecorder>,
        ocserv: &Ocserv,
        events: Option<EventQueue>,
    ) -> CancellationToken {
        let dependencies = ipc::Dependencies {
            authorizer: LoginAuthorizer::with_authorizer(authorizer.clone(), Arc::clone(recorder)),
            recorder: Arc::clone(recorder),
            ocserv: ocserv.clone(),
            recent: RecentDecisions::new(authorizer.clone()),
            events,
            metrics: self.metrics.clone(),
            own_pid: i32::try_from(std::process::id()).ok(),
            background: self.background.clone(),
        };
        let settings = self.config.view(|config| ipc::DynamicSettings {
            deadline: config.ipc.deadline.0,
            allowed_uids: config.ipc.allowed_uids.clone(),
        });
        let max_logins = self.config.current().ipc.max_connections;
        let server = ipc::Server::new(listener, dependencies, settings, max_logins);
        let logins = &self.stages.logins;
        let (ended, stop) = (CancellationToken::new(), logins.stop.clone());
        let guard = ended.clone().drop_guard();
        logins.tasks.spawn(async move {
            let _ended = guard;
            if let Err(error) = server.serve(stop).await {
                tracing::error!(%error, "the IPC server failed");
            }
        });
        ended
    }

    fn start_disconnects(&self, operations: &Operations, requests: DisconnectRequests) {
        let calls = &self.stages.calls;
        let disconnect = disconnect_denied_users(
            requests,
            operations.disconnect_user.clone(),
            self.metrics.clone(),
            calls.stop.clone(),
        );
        calls.spawn_on(&self.background, disconnect);
    }
}

fn backoff(reconnect: &config::Reconnect) -> Backoff {
    Backoff {
        initial: reconnect.initial_delay.0,
        max: reconnect.max_delay.0,
        multiplier: reconnect.multiplier,
    }
}
