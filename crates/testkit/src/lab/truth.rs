//! What ocserv says about itself, asked with its own program.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use super::netns::{Network, Place};
use super::requirements::required;
use super::{LabError, netns};

/// Ends `occtl` that hangs, which has no time limit of its own.
const SECONDS: &str = "10";

/// One row of `occtl show users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// ocserv's ID: the worker's pid.
    pub id: i64,
    /// The user; `(none)` before the login.
    pub username: String,
    /// `connected`, `pre-auth`, `auth failed` (which is also what a running connect-script looks like), ….
    pub state: String,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's address inside the VPN.
    pub vpn_ip: Option<IpAddr>,
    /// The tun device.
    pub device: Option<String>,
}

impl Row {
    /// Whether the client is in.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == "connected"
    }
}

/// Runs `occtl` with words and returns what it printed.
pub(crate) fn occtl(network: &Network, socket: &Path, words: &[&str]) -> Result<String, LabError> {
    let mut command = network.command(Place::Server, Path::new("timeout"));
    command.args(["--kill-after=1", SECONDS]).arg(required("occtl")?);
    netns::run(command.arg("--socket-file").arg(socket).args(words), "")
}

/// Every row that ocserv has, those before login too.
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
