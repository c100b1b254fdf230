//! Serving until a signal says stop.

use std::sync::Arc;
use std::time::Duration;

use authz::Authorizer;
use model::{OcservId, Username};
use occtl::{ControlSocket, State};
use portal::{ConnectionState, Portal};
use resilience::Backoff;
use telemetry::Logs;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build::{Agent, PolicyDoor};
use super::drain::{LAST_CALL, Running};
use super::pages::{Status, pages};
use super::reload::Reloader;
use super::signals::{Signals, Wanted};
use super::{Outcome, notify};
use crate::clock;
use crate::config::Config;
use crate::decision_file;
use crate::ipc_server::{Decide, Desk, Server};
use crate::metrics::Metrics;
use crate::ocserv::Ocserv;
use crate::pipeline;
use crate::revocation::Revocation;
use crate::sessions::{Found, Sessions};
use crate::sources::Authority;

/// How long the start waits for ocserv's list of sessions: a hung ocserv must not keep logins waiting.
const LIST_WITHIN: Duration = Duration::from_millis(500);

impl Agent {
    /// Serves until SIGTERM or SIGINT, then drains within [`super::DRAIN_WITHIN`]; a second such signal ends it at once.
    /// SIGHUP reads the configuration and the certificates again, `logs` being what changes its level.
    pub async fn run(self, logs: Option<&Logs>) -> Outcome {
        let Self {
            config,
            source,
            mut signals,
            door,
            rules,
            policy,
            grpc,
            http,
            metrics,
            ..
        } = self;
        let Self {
            control,
            sessions,
            events,
            tasks,
            ..
        } = self;
        let stop = self.stop.disarm();
        adopt(&control, &sessions).await;

        let (authority, portal) = match policy {
            PolicyDoor::Portal(portal, tls) => (Authority::Portal(portal.clone()), Some((portal, tls))),
            PolicyDoor::Embedded(file) => {
                tasks.spawn(Arc::clone(&file).follow(stop.clone()));
                (Authority::Embedded(file), None)
            }
        };
        let (questions, stop_questions) = (TaskTracker::new(), CancellationToken::new());
        let authorizer = pipeline::build(&config, authority.clone(), &metrics, &questions, &stop_questions);

        let deliveries = TaskTracker::new();
        let stop_events = CancellationToken::new();
        let connected = portal.as_ref().map(|(portal, _)| {
            let connected = connections(portal, &tasks, stop.clone());
            let offer = offer(portal.clone(), metrics.clone());
            let backoff = backoff(&config.portal.reconnect);
            let delivery = events.clone();
            deliveries.spawn(delivery.deliver(
                offer,
                backoff,
                connected.clone(),
                stop_events.clone(),
                LAST_CALL,
            ));
            connected
        });
        let (storing, stop_storing) = (TaskTracker::new(), CancellationToken::new());
        if portal.is_some() {
            // A policy file answers from memory: there is nothing to remember.
            remember(&config, &authorizer, &storing, &stop_storing);
        }

        let stop_ipc = CancellationToken::new();
        let inherited = door.is_inherited();
        let told = portal.is_some().then(|| events.clone());
        let desk = Desk::new(
            decide(&authorizer),
            Arc::clone(&sessions),
            told,
            control.clone(),
            metrics.clone(),
        );
        let recalled = authorizer.clone();
        let desk = desk.showing(Arc::new(move || recalled.recent()));
        let server = Server::new(door, desk, Arc::clone(&rules), config.ipc.max_connections);
        let status = Status {
            sessions: Arc::clone(&sessions),
            connected,
            authorizer: authorizer.clone(),
            fail_mode: Arc::default(),
            events: events.clone(),
            ipc: server.counts(),
            draining: stop_ipc.clone(),
        };
        status.set_fail_mode(config.resilience.fail_mode.0);
        let mut ipc = tasks.spawn(server.serve(stop_ipc.clone()));

        let (calls, stop_grpc) = (TaskTracker::new(), CancellationToken::new());
        let ocserv = Ocserv::new(control, &config.agent_id, sessions);
        let revocation = Revocation {
            ocserv: ocserv.clone(),
            authority,
            authorizer: authorizer.clone(),
            metrics: metrics.clone(),
            every: config.sessions.sync_interval.0,
        };
        calls.spawn(revocation.run(calls.clone(), stop_grpc.clone()));
        let listen = grpc.as_ref().and_then(|grpc| grpc.server.local_addr().ok());
        let (health, grpc_reload) = match grpc {
            Some(grpc) => {
                let health = grpc
                    .server
                    .spawn(ocserv, authorizer.clone(), &calls, stop_grpc.clone());
                (Some(health), Some((grpc.tls, grpc.roles)))
            }
            None => (None, None),
        };
        if let Some(http) = http {
            telemetry::serve(http, pages(status.clone(), metrics), &tasks, stop.clone());
        }

        announce(&config, inherited, listen);
        let mut reloader = Reloader {
            config,
            source,
            rules,
            portal,
            authorizer,
            status,
            grpc: grpc_reload,
        };
        let failed = loop {
            tokio::select! {
                wanted = signals.next() => match wanted {
                    Wanted::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        break false;
                    }
                    Wanted::Reload => reloader.reload(logs).await,
                },
                ended = &mut ipc => {
                    let error = ended.map_or_else(|err| err.to_string(), |served| match served {
                        Ok(()) => "it ended".to_owned(),
                        Err(err) => err.to_string(),
                    });
                    tracing::error!(error, "the IPC server failed: stopping");
                    break true;
                }
            }
        };

        let running = Running {
            tasks,
            questions,
            storing,
            deliveries,
            calls,
            events,
            health,
            stop_grpc,
            stop_ipc,
            stop_questions,
            stop_storing,
            stop_events,
            stop,
        };
        let drained = running.drain(if failed { None } else { Some(ipc) });
        let outcome = tokio::select! {
            outcome = drained => outcome,
            () = second_stop(&mut signals) => Outcome::CutShort,
        };
        if failed { Outcome::Failed } else { outcome }
    }
}

fn announce(config: &Config, inherited: bool, listen: Option<std::net::SocketAddr>) {
    let policy = match (config.portal.remote(), &config.portal.policy_file) {
        (Some((address, _)), _) => address.to_string(),
        (None, Some(file)) => format!("off: {} decides", file.display()),
        (None, None) => "off".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        agent_id = config.agent_id,
        hostname = config.hostname(),
        environment = config.environment,
        portal = policy,
        fail_mode = %config.resilience.fail_mode.0,
        ipc = if inherited { "[systemd]".to_owned() } else { config.ipc.socket.display().to_string() },
        grpc = listen.map_or_else(|| "off: there is no [grpc] section".to_owned(), |address| address.to_string()),
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

/// Gives the pipeline what an earlier run knew, and writes behind it what it learns.
fn remember(config: &Config, authorizer: &Authorizer, tasks: &TaskTracker, stop: &CancellationToken) {
    if let Some(store) = decision_file::open(&config.state_dir, &config.agent_id, authorizer) {
        tasks.spawn(decision_file::write(store, authorizer.clone(), stop.clone()));
    }
}

/// Offers one event to the portal and counts how that went.
fn offer(
    portal: Portal,
    metrics: Metrics,
) -> impl Fn(model::Event) -> std::pin::Pin<Box<dyn Future<Output = Result<(), portal::DeliverError>> + Send>>
{
    move |event| {
        let (portal, metrics) = (portal.clone(), metrics.clone());
        Box::pin(async move {
            let begin = clock::now();
            let taken = portal.deliver(&event).await;
            let method = match event.happening {
                model::Happening::Connected(_) => "ReportConnect",
                model::Happening::Disconnected(_) => "ReportDisconnect",
            };
            metrics.called(
                method,
                if taken.is_ok() { "answered" } else { "outage" },
                clock::now() - begin,
            );
            taken
        })
    }
}

async fn second_stop(signals: &mut Signals) {
    loop {
        if let Wanted::Stop(signal) = signals.next().await {
            tracing::warn!(signal, "stopping at once");
            return;
        }
    }
}

fn backoff(reconnect: &crate::config::Reconnect) -> Backoff {
    Backoff {
        initial: reconnect.initial_delay.0,
        max: reconnect.max_delay.0,
        multiplier: reconnect.multiplier,
    }
}

/// Whether the portal is connected, as a plain bool.
fn connections(portal: &Portal, tasks: &TaskTracker, stop: CancellationToken) -> watch::Receiver<bool> {
    let mut state = portal.state();
    let is_up = |state: &ConnectionState| matches!(state, ConnectionState::Connected);
    let (sender, connected) = watch::channel(is_up(&state.borrow()));
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        while state.changed().await.is_ok() {
            sender.send_replace(is_up(&state.borrow_and_update()));
        }
    }));
    connected
}

/// Notes the sessions that are there already, so that they keep the names that an earlier run gave them.
async fn adopt(control: &ControlSocket, sessions: &Sessions) {
    let rows = match timeout(LIST_WITHIN, control.list()).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            tracing::warn!(%error, "ocserv does not list its sessions: those that are there keep no notes");
            return;
        }
        Err(_) => {
            tracing::warn!("ocserv does not list its sessions in time: those that are there keep no notes");
            return;
        }
    };
    let connected = rows.into_iter().filter(|row| row.state == State::Connected);
    sessions.adopt(connected.filter_map(|row| {
        Some(Found {
            id: OcservId::new(row.id).ok()?,
            username: Username::parse(row.username.as_deref()?).ok()?,
            connected_at: row.connected_at?,
        })
    }));
    tracing::info!(sessions = sessions.count(), "ocserv listed its sessions");
}
