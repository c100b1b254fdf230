//! Serving until a signal says stop.

use std::sync::Arc;
use std::time::Duration;

use model::{OcservId, Username};
use occtl::{ControlSocket, State};
use portal::{ConnectionState, Portal};
use resilience::Backoff;
use telemetry::Logs;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::build::{Agent, PortalDoor};
use super::drain::{LAST_CALL, Running};
use super::reload::Reloader;
use super::signals::{Signals, Wanted};
use super::{Outcome, notify};
use crate::config::chain;
use crate::ipc_server::{Decide, Desk, Server};
use crate::logins::Logins;
use crate::ocserv::Ocserv;
use crate::sessions::{Found, Sessions};

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
            grpc,
            control,
            sessions,
            events,
            ..
        } = self;
        let PortalDoor {
            portal,
            tls: portal_tls,
            tasks,
            stop,
        } = self.portal;
        let stop_portal = stop.disarm();
        adopt(&control, &sessions).await;

        let stop_events = CancellationToken::new();
        let deliveries = TaskTracker::new();
        let offering = portal.clone();
        deliveries.spawn(events.clone().deliver(
            move |event| {
                let portal = offering.clone();
                async move { portal.deliver(&event).await }
            },
            backoff(&config.portal.reconnect),
            connections(&portal, &tasks, stop_portal.clone()),
            stop_events.clone(),
            LAST_CALL,
        ));

        let stop_ipc = CancellationToken::new();
        let inherited = door.is_inherited();
        let logins = Logins::new(portal.clone());
        let decide: Decide = Arc::new(move |login, deadline| {
            let logins = logins.clone();
            Box::pin(async move { logins.decide(&login, deadline).await })
        });
        let desk = Desk::new(decide, Arc::clone(&sessions), events.clone(), control.clone());
        let server = Server::new(door, desk, Arc::clone(&rules), config.ipc.max_connections);
        let mut ipc = tasks.spawn(server.serve(stop_ipc.clone()));

        let stop_grpc = CancellationToken::new();
        let calls = TaskTracker::new();
        let listen = grpc.as_ref().and_then(|grpc| grpc.server.local_addr().ok());
        let (health, grpc_reload) = match grpc {
            Some(grpc) => {
                let ocserv = Ocserv::new(control, &config.agent_id, sessions);
                let health = grpc.server.spawn(ocserv, &calls, stop_grpc.clone());
                (Some(health), Some((grpc.tls, grpc.roles)))
            }
            None => (None, None),
        };

        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            agent_id = config.agent_id,
            hostname = config.hostname(),
            environment = config.environment,
            portal = %config.portal.address,
            ipc = if inherited { "[systemd]".to_owned() } else { config.ipc.socket.display().to_string() },
            grpc = listen.map_or_else(|| "off: there is no [grpc] section".to_owned(), |address| address.to_string()),
            "agent is ready"
        );
        notify::ready("serving");

        let mut reloader = Reloader {
            config,
            source,
            rules,
            portal: portal.clone(),
            portal_tls,
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
            deliveries,
            calls,
            events,
            health,
            stop_grpc,
            stop_ipc,
            stop_events,
            stop_portal,
        };
        let drained = running.drain(if failed { None } else { Some(ipc) });
        let outcome = tokio::select! {
            outcome = drained => outcome,
            () = second_stop(&mut signals) => Outcome::CutShort,
        };
        if failed { Outcome::Failed } else { outcome }
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
            tracing::warn!(
                error = chain(&error),
                "ocserv does not list its sessions: those that are there keep no notes"
            );
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
