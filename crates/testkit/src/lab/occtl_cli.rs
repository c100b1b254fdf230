//! ocserv's sessions and commands, through its own program `occtl`.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use super::error::LabError;
use super::netns::{Network, Node, run};
use super::requirements::required;

/// Longest run of `occtl`, which has no timeout of its own, in seconds.
const TIMEOUT: &str = "10";

/// One row of `occtl show users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// ocserv's ID: the worker's pid.
    pub id: i64,
    /// The user; `(none)` before login.
    pub username: String,
    /// `connected`, `pre-auth`, `auth failed` (also while the connect-script runs), ….
    pub state: String,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: Option<String>,
}

impl Row {
    /// Whether the session is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == "connected"
    }
}

/// Runs `occtl` with these arguments and returns its output.
pub(crate) fn occtl(network: &Network, socket: &Path, arguments: &[&str]) -> Result<String, LabError> {
    let mut command = network.command(Node::Server, Path::new("timeout"));
    command.args(["--kill-after=1", TIMEOUT]).arg(required("occtl")?);
    run(command.arg("--socket-file").arg(socket).args(arguments), "")
}

/// Lists all of ocserv's rows, those before login too.
pub(crate) fn rows(network: &Network, socket: &Path) -> Result<Vec<Row>, LabError> {
    let text = occtl(network, socket, &["--json", "show", "users"])?;
    let json: Vec<Value> = serde_json::from_str(&text).map_err(|error| LabError::Command {
        command: "occtl --json show users".to_owned(),
        output: format!("{error} in {text}"),
    })?;
    Ok(json.iter().map(row).collect())
}

fn row(json: &Value) -> Row {
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let address = |key: &str| text(key).and_then(|text| text.parse().ok());
    Row {
        id: json.get("ID").and_then(Value::as_i64).unwrap_or_default(),
        username: text("Username").unwrap_or_default(),
        state: text("State").unwrap_or_default(),
        client_ip: address("Remote IP"),
        vpn_ip: address("IPv4").or_else(|| address("IPv6")),
        device: text("Device"),
    }
}
