//! Taking everything that the agent needs, before it serves anything.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ocserv::Ocserv;
use policy::{PolicyFile, PolicyFileError};
use portal::Portal;
use tls::{ClientTls, IdentityError, IdentityStatus, ServerTls};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::ConfigSource;
use super::signals::Signals;
use crate::config::{self, Address, Config, PortalTls};
use crate::grpc::{self, Roles};
use crate::ipc_server::{BindError, Door, Rules};
use crate::jobs::watch_policy;
use crate::metrics::Metrics;
use crate::operations::policy_backend::CurrentPolicy;
use crate::operations::record_session::SessionRecorder;
use crate::operations::shared_outbox::SharedOutbox;
use crate::retrying_listener::RetryingListener;

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no log.
    #[error("the log could not start")]
    Log(#[from] telemetry::InitError),
    /// The log's level is none.
    #[error("log.level")]
    Level(#[from] telemetry::LevelError),
    /// There is no runtime.
    #[error("the runtime could not start")]
    Runtime(#[source] io::Error),
    /// The signals cannot be taken.
    #[error("signals cannot be taken")]
    Signals(#[source] io::Error),
    /// An identity cannot be used.
    #[error("{section}")]
    Identity {
        /// The section of the config.
        section: &'static str,
        /// What is wrong.
        #[source]
        source: IdentityError,
    },
    /// The portal cannot be dialled as configured.
    #[error("portal")]
    Portal(#[from] portal::SettingsError),
    /// There is no IPC socket.
    #[error("ipc.socket")]
    Ipc(#[source] BindError),
    /// The policy file cannot be used.
    #[error("portal.policy_file")]
    Policy(#[from] PolicyFileError),
    /// The metrics contradict each other.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] telemetry::RegistryError),
}

/// An agent that has everything it needs and serves nothing yet.
pub struct Agent {
    pub(super) config: Config,
    pub(super) source: ConfigSource,
    pub(super) signals: Signals,
    pub(super) door: Door,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) policy: PolicyDoor,
    pub(super) grpc: Option<GrpcDoor>,
    pub(super) http: RetryingListener,
    pub(super) metrics: Metrics,
    /// Where the tasks of the whole process run.
    pub(super) tasks: TaskTracker,
    /// Ends them. An agent that is built and never run leaves no task behind.
    pub(super) stop: DropGuard,
    pub(super) ocserv: Ocserv,
    pub(super) recorder: Arc<SessionRecorder>,
    pub(super) outbox: SharedOutbox,
    /// Where everything runs that no login waits for.
    pub(super) background: Handle,
}

/// Who decides.
pub(super) enum PolicyDoor {
    /// The client of the portal, which is connecting already.
    Portal(Portal, ClientTls),
    /// The policy file, and the policy read from it.
    Embedded(PolicyFile, CurrentPolicy),
}

impl PolicyDoor {
    fn open(config: &Config, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, StartError> {
        if let Some((address, tls)) = config.portal.remote() {
            let section = "portal.tls";
            let identity = ClientTls::load(tls.files().identity());
            let identity = identity.map_err(|source| StartError::Identity { section, source })?;
            warn(section, &identity.status());
            let settings = portal_settings(config, address, tls);
            let portal = Portal::start(settings, identity.clone(), tasks, stop.clone())?;
            return Ok(Self::Portal(portal, identity));
        }
        let path = config.portal.policy_file.clone().unwrap_or_default();
        let (file, policy) = watch_policy::open(&path)?;
        Ok(Self::Embedded(file, policy))
    }
}

/// The gRPC server.
pub(super) struct GrpcDoor {
    pub(super) server: grpc::Server,
    pub(super) tls: ServerTls,
    pub(super) roles: Arc<Roles>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Loads the identities, takes the ports and the socket (`inherited` from systemd, else its own) and the signals. What
    /// no login waits for runs on `background`, logins where this is called.
    ///
    /// # Errors
    /// The first thing that could not be had. What was taken by then is given back.
    pub async fn build(
        config: Config,
        source: ConfigSource,
        inherited: Option<Door>,
        background: Handle,
    ) -> Result<Self, StartError> {
        tls::install_provider();
        // The socket first: it tells whether another agent runs.
        let door = match inherited {
            Some(door) => door,
            None => Door::bind(&config.ipc.socket, config.ipc.socket_mode.0)?,
        };
        let grpc = match &config.grpc {
            Some(grpc) => Some(GrpcDoor::open(grpc).await?),
            None => None,
        };
        let signals = Signals::take().map_err(StartError::Signals)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let guard = stop.clone().drop_guard();
        let policy = PolicyDoor::open(&config, &tasks, &stop)?;
        let metrics = Metrics::new(&config.agent_id)?;
        let ocserv = Ocserv::new(ocserv::Settings {
            socket: config.ocserv.occtl_socket.clone(),
            request_timeout: config.ocserv.occtl_timeout.0,
            agent_id: config.agent_id.clone(),
        });
        let outbox = SharedOutbox::new(config.events.max_pending);
        let reported = matches!(policy, PolicyDoor::Portal(..)).then(|| outbox.clone());
        let recorder = SessionRecorder::new(&config.agent_id, reported, metrics.clone());
        Ok(Self {
            signals,
            door,
            rules: Arc::new(ArcSwap::from_pointee(rules(&config))),
            policy,
            grpc,
            http: RetryingListener::bind("http.listen", config.http.listen).await,
            ocserv: ocserv.with_observer(metrics.control_observer()),
            metrics,
            tasks,
            stop: guard,
            recorder: Arc::new(recorder),
            outbox,
            config,
            source,
            background,
        })
    }

    /// Where the gRPC server listens, if there is one: the port that the kernel chose when port 0 was asked for.
    #[must_use]
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().and_then(|grpc| grpc.server.local_addr())
    }
}

impl GrpcDoor {
    async fn open(config: &config::Grpc) -> Result<Self, StartError> {
        let tls = ServerTls::load(config.tls.identity()).map_err(|source| StartError::Identity {
            section: "grpc.tls",
            source,
        })?;
        warn("grpc.tls", &tls.status());
        if config.roles.is_empty() {
            tracing::warn!("grpc.roles is empty: every RPC but health is refused");
        }
        let roles = Arc::new(Roles::new(config.roles.clone()));
        let settings = grpc::Settings {
            max_connections: config.max_connections,
            handshake_timeout: config.handshake_timeout.0,
        };
        let port = RetryingListener::bind("grpc.listen", config.listen).await;
        let server = grpc::Server::new(port, tls.clone(), Arc::clone(&roles), settings);
        Ok(Self { server, tls, roles })
    }
}

/// Logs what an operator should look at although the identity works.
pub(super) fn warn(section: &str, status: &IdentityStatus) {
    for warning in &status.warnings {
        tracing::warn!(section, "{warning}");
    }
}

pub(super) fn rules(config: &Config) -> Rules {
    Rules {
        deadline: config.ipc.deadline.0,
        allowed_uids: config.ipc.allowed_uids.clone(),
    }
}

fn portal_settings(config: &Config, address: &Address, tls: &PortalTls) -> portal::Settings {
    let portal = &config.portal;
    portal::Settings {
        address: address.uri().clone(),
        server_name: tls.server_name.clone(),
        timeout: portal.timeout.0,
        connect_timeout: portal.connect_timeout(),
        keepalive_interval: portal.keepalive_interval.0,
        keepalive_timeout: portal.keepalive_timeout.0,
        reconnect: portal::ReconnectSettings {
            initial_delay: portal.reconnect.initial_delay.0,
            max_delay: portal.reconnect.max_delay.0,
            multiplier: portal.reconnect.multiplier,
        },
        agent_id: config.agent_id.clone(),
    }
}
