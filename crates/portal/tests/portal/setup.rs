//! A portal, a proxy in front of it, and a client that dials the proxy.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use ocserv_agent_model::{Login, OcservId, Username, VhostName};
use portal::{CheckError, ConnectionState, Limits, PolicyReply, Portal, ReconnectSettings, Settings};
use tls::{ClientTls, ServerTls};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::double::Double;
use crate::pki::{Ca, Files};
use crate::proxy::{Mode, Proxy};

/// Timeout of every wait; reached only when a test fails.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Waits until `is_reached`.
pub(crate) async fn eventually(state: &str, is_reached: impl Fn() -> bool) {
    let wait = async {
        while !is_reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(BOUND, wait).await;
    assert!(waited.is_ok(), "timed out: {state}");
}

pub(crate) fn settings(address: SocketAddr) -> Settings {
    Settings {
        address: format!("https://{address}").parse().unwrap(),
        server_name: Some("portal.test".to_owned()),
        timeout: BOUND,
        connect_timeout: BOUND,
        keepalive_interval: BOUND,
        keepalive_timeout: BOUND,
        reconnect: ReconnectSettings {
            initial_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(50),
            multiplier: 2.0,
        },
        agent_id: "a1".to_owned(),
        limits: Limits {
            max_routes: 2000,
            max_dns: 16,
            max_text: 4096,
        },
    }
}

pub(crate) struct Setup {
    pub(crate) double: Double,
    pub(crate) proxy: Proxy,
    pub(crate) portal: Portal,
    pub(crate) tls: ClientTls,
    pub(crate) files: Files,
    pub(crate) token: CancellationToken,
    pub(crate) client_tasks: TaskTracker,
    _rest: (TaskTracker, Files, tokio_util::sync::DropGuard),
}

impl Setup {
    /// Client and portal trust each other.
    pub(crate) async fn new(ca: &Ca, mode: Mode, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(ca, ca, Files::new(ca, ca, "agent.test"), mode, change).await
    }

    /// A portal whose certificate is from `issuer` and that trusts `trusted`; a client with
    /// `files`.
    pub(crate) async fn with(
        issuer: &Ca,
        trusted: &Ca,
        files: Files,
        mode: Mode,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let (tasks, server_token) = (TaskTracker::new(), CancellationToken::new());
        let server_files = Files::new(trusted, issuer, "portal.test");
        let server_tls = ServerTls::load(server_files.paths()).unwrap();
        let (double, upstream) = Double::start(server_tls, &tasks, server_token.clone()).await;
        let proxy = Proxy::start(upstream, mode, &tasks).await;

        let mut settings = settings(proxy.address);
        change(&mut settings);
        let tls = ClientTls::load(files.paths()).unwrap();
        let (client_tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let portal = Portal::start(
            settings,
            tls.clone(),
            &client_tasks,
            &Handle::current(),
            token.clone(),
        )
        .unwrap();
        let _rest = (tasks, server_files, server_token.drop_guard());
        Self {
            double,
            proxy,
            portal,
            tls,
            files,
            token,
            client_tasks,
            _rest,
        }
    }

    pub(crate) async fn check_policy(&self) -> Result<PolicyReply, CheckError> {
        self.check_policy_by(Instant::now() + BOUND).await
    }

    pub(crate) async fn check_policy_by(&self, deadline: Instant) -> Result<PolicyReply, CheckError> {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        // In a task of its own, as in the agent: the future must be `Send`.
        let portal = self.portal.clone();
        let call = async move { portal.check_policy(&login(), deadline, now).await };
        TaskTracker::new().spawn(call).await.unwrap()
    }

    pub(crate) async fn connected(&self) {
        let connected = async {
            self.portal
                .state()
                .wait_for(ConnectionState::is_connected)
                .await
                .map(|_| ())
        };
        tokio::time::timeout(BOUND, connected).await.unwrap().unwrap();
    }

    /// Waits until the connection is down for a reason that contains `part`; returns when the next
    /// attempt is due.
    pub(crate) async fn down(&self, part: &str) -> Instant {
        let mut state = self.portal.state();
        let down = state.wait_for(|state| match state {
            ConnectionState::Down { reason, .. } => reason.contains(part),
            _ => false,
        });
        match tokio::time::timeout(BOUND, down)
            .await
            .map(|state| state.unwrap().clone())
        {
            Ok(ConnectionState::Down { retry_at, .. }) => retry_at,
            other => panic!(
                "never down because of {part:?}: {other:?}, {:?}",
                self.portal.state().borrow()
            ),
        }
    }
}

pub(crate) fn login() -> Login {
    Login {
        username: Username::parse("alice").unwrap(),
        group: None,
        client_ip: "192.0.2.1".parse().unwrap(),
        vhost: Some(VhostName::parse("vpn.example.com").unwrap()),
        id: OcservId::new(42).unwrap(),
        vpn_ip: Some("10.0.0.7".parse().unwrap()),
        device: "vpns0".to_owned(),
    }
}
