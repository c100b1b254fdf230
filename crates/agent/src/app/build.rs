//! Acquires everything that the agent needs before it serves anything.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ocserv::Ocserv;
use policy::PolicyFileError;
use portal::{ControlSender, Portal};
use tls::{ClientTls, IdentityError, IdentityStatus, ServerTls};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use super::config_source::ConfigSource;
use super::live_config::LiveConfig;
use super::shutdown::{Stages, TaskGroup};
use super::signals::Signals;
use super::state_lock::{StateInUse, StateLock, lock_state};
use crate::clock;
use crate::config::{self, Address, Config, ConfigError, PortalTls};
use crate::grpc;
use crate::ipc::{BindError, IpcListener};
use crate::jobs::persist_decisions::DecisionPersistence;
use crate::jobs::persist_events::{EventPersistence, StoredRows};
use crate::jobs::watch_policy::PolicyWatch;
use crate::metrics::Metrics;
use crate::operations::notifications::Notifications;
use crate::operations::record_session::SessionRecorder;
use crate::operations::refused_reloads::RefusedReloads;
use crate::operations::shared_outbox::SharedOutbox;
use crate::retrying_listener::RetryingListener;

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(ConfigError),
    /// The log could not start.
    #[error("the log could not start")]
    Log(#[from] telemetry::InitError),
    /// `log.level` is invalid.
    #[error("log.level")]
    Level(#[from] telemetry::LevelError),
    /// A tokio runtime could not start.
    #[error("the runtime could not start")]
    Runtime(#[source] io::Error),
    /// The signal handlers could not be installed.
    #[error("signals cannot be handled")]
    Signals(#[source] io::Error),
    /// A TLS identity cannot be used.
    #[error("{section}")]
    Identity {
        /// The section of the configuration.
        section: &'static str,
        /// What is wrong.
        #[source]
        source: IdentityError,
    },
    /// The portal cannot be dialled as configured.
    #[error("portal")]
    Portal(#[from] portal::SettingsError),
    /// The IPC socket could not be bound.
    #[error("ipc.socket")]
    Ipc(#[from] BindError),
    /// Another agent uses the same directory.
    #[error(transparent)]
    State(#[from] StateInUse),
    /// The policy file cannot be used.
    #[error("portal.policy_file")]
    Policy(#[from] PolicyFileError),
    /// The declarations of metrics contradict each other.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] telemetry::RegistryError),
}

/// What every part is started with.
pub(super) struct Context {
    pub(super) config: LiveConfig,
    pub(super) metrics: Metrics,
    pub(super) refused: RefusedReloads,
    pub(super) notifications: Notifications,
    pub(super) stages: Stages,
    /// The runtime of what no login waits for.
    pub(super) background: Handle,
}

/// An agent that has acquired what it needs and serves nothing yet.
pub(crate) struct Agent {
    pub(super) context: Context,
    /// Ends the tasks of an agent that is built and never run.
    pub(super) guard: DropGuard,
    pub(super) source: ConfigSource,
    pub(super) signals: Signals,
    pub(super) listener: IpcListener,
    pub(super) policy: PolicySetup,
    pub(super) grpc: Option<GrpcSetup>,
    pub(super) http: RetryingListener,
    pub(super) ocserv: Ocserv,
    pub(super) recorder: Arc<SessionRecorder>,
    pub(super) outbox: SharedOutbox,
    /// The store of events, and the rows of sessions that it has; `None` without a portal.
    pub(super) events: Option<(EventPersistence, oneshot::Receiver<StoredRows>)>,
    pub(super) lock: StateLock,
    /// Sends on the control stream; `None` without one.
    pub(super) control: Option<ControlSender>,
}

/// The policy source.
pub(super) enum PolicySetup {
    /// The client of the portal, already connecting, its identity, and the store of its
    /// decisions.
    Portal(Portal, ClientTls, DecisionPersistence),
    /// The policy file.
    Embedded(PolicyWatch),
}

/// The gRPC server and its identity.
pub(super) struct GrpcSetup {
    pub(super) server: grpc::Server,
    pub(super) tls: ServerTls,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.context.config.current())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Loads the identities, binds the ports and the socket (or takes over `inherited`), and
    /// installs the signal handlers. What no login waits for runs on `background`, logins on the
    /// caller's runtime.
    ///
    /// # Errors
    /// The first thing that could not be acquired; what was acquired is released.
    pub(crate) async fn build(
        config: Config,
        source: ConfigSource,
        inherited: Option<IpcListener>,
        background: Handle,
    ) -> Result<Self, StartError> {
        tls::install_provider();
        // First, because it shows whether another agent runs.
        let listener = match inherited {
            Some(listener) => listener,
            None => IpcListener::bind(&config.ipc.socket, config.ipc.socket_mode.0)?,
        };
        let lock = lock_state(&config).await?;
        let live = LiveConfig::new(config.clone());
        let grpc = match &config.grpc {
            Some(grpc) => Some(GrpcSetup::bind(grpc, &live).await?),
            None => None,
        };
        let signals = Signals::register().map_err(StartError::Signals)?;
        let stages = Stages::default();
        let guard = stages.process.stop.clone().drop_guard();
        let refused = RefusedReloads::default();
        let policy = PolicySetup::open(&config, &refused, &stages.process, &background)?;
        let metrics = Metrics::new(&config.agent_id)?;
        let ocserv = Ocserv::new(ocserv::Settings {
            socket: config.ocserv.occtl_socket.clone(),
            request_timeout: config.ocserv.occtl_timeout.0,
            agent_id: config.agent_id.clone(),
        });
        let outbox = SharedOutbox::new(config.outbox.max_bytes);
        let control = control_sender(&config);
        let reported = matches!(policy, PolicySetup::Portal(..)).then(|| outbox.clone());
        let events = reported.clone().map(|outbox| {
            let directory = config.outbox.directory(&config.state_dir);
            EventPersistence::start(directory, &config.agent_id, outbox, metrics.clone())
        });
        let recorder = SessionRecorder::new(&config.agent_id, reported, metrics.clone());
        Ok(Self {
            guard,
            source,
            signals,
            listener,
            policy,
            grpc,
            http: RetryingListener::bind("http.listen", config.http.listen).await,
            ocserv: ocserv.with_observer(metrics.control_observer()),
            recorder: Arc::new(recorder),
            outbox,
            events,
            lock,
            context: Context {
                notifications: Notifications::new(control.clone()),
                config: live,
                metrics,
                refused,
                stages,
                background,
            },
            control,
        })
    }
}

impl PolicySetup {
    fn open(
        config: &Config,
        refused: &RefusedReloads,
        process: &TaskGroup,
        background: &Handle,
    ) -> Result<Self, StartError> {
        if let Some((address, tls)) = config.portal.remote() {
            let store = DecisionPersistence::start(&config.state_dir, &config.agent_id);
            let section = "portal.tls";
            let identity = ClientTls::load(tls.files().identity())
                .map_err(|source| StartError::Identity { section, source })?;
            warn(section, &identity.status());
            let settings = portal_settings(config, address, tls);
            let stop = process.stop.clone();
            let portal = Portal::start(settings, identity.clone(), &process.tasks, background, stop)?;
            return Ok(Self::Portal(portal, identity, store));
        }
        let path = config.portal.policy_file.clone().unwrap_or_default();
        let watch = PolicyWatch::open(&path, &config.state_dir, refused.clone())?;
        Ok(Self::Embedded(watch))
    }
}

impl GrpcSetup {
    async fn bind(config: &config::Grpc, live: &LiveConfig) -> Result<Self, StartError> {
        let section = "grpc.tls";
        let tls = ServerTls::load(config.tls.identity())
            .map_err(|source| StartError::Identity { section, source })?;
        warn(section, &tls.status());
        if config.roles.is_empty() {
            tracing::warn!("grpc.roles is empty: every RPC but health is refused");
        }
        let roles = live.view(|config| {
            let roles = config.grpc.iter().flat_map(config::Grpc::roles_by_name);
            roles.map(|(name, role)| (name, grpc_role(role))).collect()
        });
        let settings = grpc::Settings {
            max_connections: config.max_connections,
            handshake_timeout: config.handshake_timeout.0,
        };
        let port = RetryingListener::bind("grpc.listen", config.listen).await;
        let server = grpc::Server::new(port, tls.clone(), grpc::Roles::new(roles), settings);
        Ok(Self { server, tls })
    }
}

/// Logs what an operator should look at although the identity works.
pub(super) fn warn(section: &str, status: &IdentityStatus) {
    for warning in &status.warnings {
        tracing::warn!(section, "{warning}");
    }
}

/// The sender of the control stream, where there is one.
fn control_sender(config: &Config) -> Option<ControlSender> {
    config.portal.remote().filter(|_| config.portal.control_stream)?;
    let started = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Distinguishes the events of this process from those of an earlier one.
    let instance = started.as_millis().to_string();
    Some(ControlSender::new(&config.agent_id, &instance))
}

pub(super) fn grpc_role(role: config::Role) -> grpc::Role {
    match role {
        config::Role::Viewer => grpc::Role::Viewer,
        config::Role::Operator => grpc::Role::Operator,
        config::Role::Admin => grpc::Role::Admin,
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
        limits: portal::Limits {
            max_routes: portal.limits.max_routes,
            max_dns: portal.limits.max_dns,
            max_text: portal.limits.max_text,
        },
    }
}
