//! Setting everything to work that was built, step by step: who decides, who remembers, who answers, who may call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use authz::Authorizer;
use ocserv::{LiveSession, Ocserv};
use ocserv_agent_model::Username;
use portal::{ConnectionState, Portal};
use resilience::Backoff;
use sessions::ExistingSession;
use tls::ClientTls;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::build::{Agent, PolicyDoor};
use super::drain::{Part, Running};
use super::notify;
use super::pages::{Status, pages};
use super::reload::Reloader;
use super::signals::Signals;
use crate::config::{self, Config};
use crate::decision_file;
use crate::ipc_server::{self, Decide, Door, Rules, Server};
use crate::jobs::deliver_events::{EventDelivery, report_to};
use crate::jobs::probe_ocserv::probe_ocserv;
use crate::jobs::validate_sessions::SessionValidator;
use crate::jobs::watch_policy::watch_policy;
use crate::metrics::Metrics;
use crate::operations::Operations;
use crate::operations::disconnect_user::DisconnectUser;
use crate::operations::policy_backend::PolicyBackend;
use crate::operations::record_session::SessionRecorder;
use crate::pipeline;

/// How long the start waits for ocserv's list of sessions: a hung ocserv must not keep logins waiting.
const LIST_WITHIN: Duration = Duration::from_millis(500);

/// An agent that serves.
pub(super) struct Started {
    pub(super) running: Running,
    /// Ends with the IPC server.
    pub(super) ipc: JoinHandle<io::Result<()>>,
    pub(super) reloader: Reloader,
    pub(super) signals: Signals,
}

/// What every step needs to know.
struct Start {
    config: Config,
    metrics: Metrics,
    ocserv: Ocserv,
    recorder: Arc<SessionRecorder>,
    /// Where everything runs that no login waits for.
    background: Handle,
    running: Running,
}

/// Starts everything; the last thing is to say that the agent is ready.
pub(super) async fn start(agent: Agent) -> Started {
    let Agent {
        config,
        source,
        signals,
        door,
        rules,
        policy,
        grpc,
        http,
        metrics,
        tasks,
        stop,
        ocserv,
        recorder,
        outbox,
        background,
    } = agent;
    let stop = stop.disarm();
    let start = Start {
        config,
        metrics,
        ocserv,
        recorder,
        background,
        running: Running::new(Part { tasks, stop }, outbox),
    };
    start.keep_metrics();
    start.import_sessions().await;

    let (policy, portal) = start.policy_backend(policy);
    let authorizer = start.pipeline(&policy);
    let connected = portal.as_ref().map(|(portal, _)| start.deliver_events(portal));
    if portal.is_some() {
        // A policy file answers from memory: there is nothing to remember.
        start.remember(&authorizer).await;
    }

    let inherited = door.is_inherited();
    let server = start.ipc_server(door, &rules, &authorizer);
    let status = Status {
        recorder: Arc::clone(&start.recorder),
        connected,
        authorizer: authorizer.clone(),
        fail_mode: Arc::default(),
        outbox: start.running.outbox.clone(),
        ipc: server.counts(),
        draining: start.running.stop_ipc.clone(),
    };
    status.set_fail_mode(start.config.resilience.fail_mode.0);
    let whole = &start.running.whole;
    let ipc = whole.tasks.spawn(server.serve(start.running.stop_ipc.clone()));
    let pages = pages(status.clone(), start.metrics.clone());
    let (tasks, stop) = (whole.tasks.clone(), whole.stop.clone());
    let serve_pages = async move {
        if let Some(listener) = http.wait(&stop).await {
            telemetry::serve(listener, pages, &tasks, stop);
        }
    };
    whole.tasks.spawn_on(serve_pages, &start.background);

    let operations = Operations::new(&start.ocserv, &start.recorder, &authorizer);
    start.validate_sessions(policy, operations.disconnect_user.clone());
    let listen = grpc.as_ref().map(|grpc| grpc.server.local_addr());
    let grpc = grpc.map(|grpc| {
        let calls = &start.running.calls;
        let _background = start.background.enter();
        grpc.server.spawn(operations, &calls.tasks, calls.stop.clone());
        (grpc.tls, grpc.roles)
    });

    announce(&start.config, inherited, listen);
    Started {
        ipc,
        signals,
        reloader: Reloader {
            config: start.config,
            source,
            rules,
            portal,
            authorizer,
            status,
            grpc,
        },
        running: start.running,
    }
}

impl Start {
    /// Whether or not anybody looks at the metrics: see [`telemetry::Registry::upkeep`].
    fn keep_metrics(&self) {
        let (registry, whole) = (self.metrics.registry(), &self.running.whole);
        let stop = whole.stop.clone();
        let upkeep = async move { registry.upkeep(stop).await };
        whole.tasks.spawn_on(upkeep, &self.background);
    }

    /// Imports the sessions that are connected already, so that they keep the uids that an earlier run gave them.
    async fn import_sessions(&self) {
        let sessions = match timeout(LIST_WITHIN, self.ocserv.sessions()).await {
            Ok(Ok(sessions)) => sessions,
            Ok(Err(error)) => {
                tracing::warn!(%error, "ocserv does not list its sessions: those connected already are unknown until they end");
                return;
            }
            Err(_) => {
                tracing::warn!(
                    "ocserv does not list its sessions in time: those connected already are unknown until they end"
                );
                return;
            }
        };
        let existing = |session: LiveSession| {
            Some(ExistingSession {
                id: session.id,
                username: Username::parse(session.row.username.as_deref()?).ok()?,
                connected_at: session.connected_at,
            })
        };
        self.recorder.import(sessions.into_iter().filter_map(existing));
        tracing::info!(
            sessions = self.recorder.live_count(),
            "ocserv listed its sessions"
        );
    }

    /// Who decides; the portal's client where it is the portal.
    fn policy_backend(&self, policy: PolicyDoor) -> (PolicyBackend, Option<(Portal, ClientTls)>) {
        match policy {
            PolicyDoor::Portal(portal, tls) => (PolicyBackend::Portal(portal.clone()), Some((portal, tls))),
            PolicyDoor::Embedded(file, policy) => {
                let whole = &self.running.whole;
                let watch = watch_policy(file, Arc::clone(&policy), whole.stop.clone());
                whole.tasks.spawn_on(watch, &self.background);
                (PolicyBackend::Embedded(policy), None)
            }
        }
    }

    fn pipeline(&self, policy: &PolicyBackend) -> Authorizer {
        let Part { tasks, stop } = &self.running.questions;
        pipeline::build(&self.config, policy.clone(), &self.metrics, tasks, stop)
    }

    /// Starts to deliver events to `portal`; returns whether it is connected.
    fn deliver_events(&self, portal: &Portal) -> watch::Receiver<bool> {
        let connected = connections(portal, &self.running.whole);
        let Part { tasks, stop } = &self.running.deliveries;
        let delivery = EventDelivery {
            outbox: self.running.outbox.clone(),
            send: report_to(portal.clone(), self.metrics.clone()),
            backoff: backoff(&self.config.portal.reconnect),
            connected: connected.clone(),
        };
        tasks.spawn_on(delivery.run(stop.clone()), &self.background);
        connected
    }

    /// Gives the pipeline what an earlier run knew, and writes behind it what it learns.
    async fn remember(&self, authorizer: &Authorizer) {
        let Config {
            state_dir, agent_id, ..
        } = &self.config;
        if let Some(store) = decision_file::open(state_dir, agent_id, authorizer).await {
            let Part { tasks, stop } = &self.running.storing;
            let follow = decision_file::follow(store, authorizer.clone(), stop.clone());
            tasks.spawn_on(follow, &self.background);
        }
    }

    /// The server that the connect-script asks.
    fn ipc_server(&self, door: Door, rules: &Arc<ArcSwap<Rules>>, authorizer: &Authorizer) -> Server {
        let recalled = authorizer.clone();
        let parts = ipc_server::Parts {
            decide: decide(authorizer),
            recorder: Arc::clone(&self.recorder),
            ocserv: self.ocserv.clone(),
            metrics: self.metrics.clone(),
            recall: Some(Arc::new(move || recalled.recent())),
        };
        let max_connections = self.config.ipc.max_connections;
        Server::new(
            door,
            parts,
            Arc::clone(rules),
            max_connections,
            self.background.clone(),
        )
    }

    /// Begins to end sessions that the policy no longer allows.
    fn validate_sessions(&self, policy: PolicyBackend, disconnect_user: DisconnectUser) {
        let validator = SessionValidator {
            ocserv: self.ocserv.clone(),
            policy,
            disconnect_user,
            metrics: self.metrics.clone(),
            interval: self.config.sessions.sync_interval.0,
        };
        let Part { tasks, stop } = &self.running.calls;
        tasks.spawn_on(validator.run(tasks.clone(), stop.clone()), &self.background);
        tasks.spawn_on(probe_ocserv(self.ocserv.clone(), stop.clone()), &self.background);
    }
}

/// `listen` is `None` without a gRPC server, and has no address while its port is not to be had.
fn announce(config: &Config, inherited: bool, listen: Option<Option<std::net::SocketAddr>>) {
    let policy = match (config.portal.remote(), &config.portal.policy_file) {
        (Some((address, _)), _) => address.to_string(),
        (None, Some(file)) => format!("off: {} decides", file.display()),
        (None, None) => "off".to_owned(),
    };
    let grpc = match listen {
        Some(Some(address)) => address.to_string(),
        Some(None) => "waiting for grpc.listen".to_owned(),
        None => "off: there is no [grpc] section".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        agent_id = config.agent_id,
        hostname = config.hostname(),
        environment = config.environment,
        portal = policy,
        fail_mode = %config.resilience.fail_mode.0,
        ipc = if inherited { "[systemd]".to_owned() } else { config.ipc.socket.display().to_string() },
        grpc,
        "agent is ready"
    );
    notify::ready("serving");
}

fn decide(authorizer: &Authorizer) -> Decide {
    let authorizer = authorizer.clone();
    Arc::new(move |login, deadline| {
        let authorizer = authorizer.clone();
        Box::pin(async move { authorizer.decide(&login, deadline).await })
    })
}

fn backoff(reconnect: &config::Reconnect) -> Backoff {
    Backoff {
        initial: reconnect.initial_delay.0,
        max: reconnect.max_delay.0,
        multiplier: reconnect.multiplier,
    }
}

/// Whether the portal is connected, as a plain bool.
fn connections(portal: &Portal, whole: &Part) -> watch::Receiver<bool> {
    let mut state = portal.state();
    let is_up = |state: &ConnectionState| matches!(state, ConnectionState::Connected);
    let (sender, connected) = watch::channel(is_up(&state.borrow()));
    let stop = whole.stop.clone();
    whole.tasks.spawn(stop.run_until_cancelled_owned(async move {
        while state.changed().await.is_ok() {
            sender.send_replace(is_up(&state.borrow_and_update()));
        }
    }));
    connected
}
