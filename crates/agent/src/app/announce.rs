//! Reports that the agent is ready.

use std::net::SocketAddr;

use super::systemd;
use crate::config::Config;

/// Reports that the agent is ready. `grpc` is `None` without a gRPC server, and has no address
/// while its port is taken.
pub(super) fn announce(config: &Config, inherited: bool, grpc: Option<Option<SocketAddr>>) {
    let policy = match (config.portal.remote(), &config.portal.policy_file) {
        (Some((address, _)), _) => address.to_string(),
        (None, Some(file)) => format!("off: {} decides", file.display()),
        (None, None) => "off".to_owned(),
    };
    let grpc = match grpc {
        Some(Some(address)) => address.to_string(),
        Some(None) => "waiting for grpc.listen".to_owned(),
        None => "off: there is no [grpc] section".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        agent_id = config.agent_id,
        hostname = config.hostname(),
        environment = config.environment.as_str(),
        portal = policy,
        fail_mode = %config.resilience.fail_mode.0,
        ipc = if inherited { "[systemd]".to_owned() } else { config.ipc.socket.display().to_string() },
        grpc,
        "agent is ready"
    );
    systemd::ready("serving");
}
