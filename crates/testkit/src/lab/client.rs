//! The openconnect clients of a lab.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::error::LabError;
use super::netns::{Network, Node, run};
use super::process::ManagedProcess;
use super::requirements::required;

/// The password of every user of a lab.
pub const PASSWORD: &str = "a password of the lab";

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The user's password.
    pub password: String,
    /// The cookie of an earlier login, instead of the password (see
    /// [`super::Server::authenticate`]).
    pub cookie: Option<String>,
    /// The client network that it connects from, counted from 0.
    pub network: u8,
    /// Whether it connects over IPv6.
    pub over_ipv6: bool,
    /// Whether its tun device gets its address and routes, so that packets can pass.
    pub tunnel: bool,
    /// Further arguments of openconnect.
    pub extra: Vec<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            password: PASSWORD.to_owned(),
            cookie: None,
            network: 0,
            over_ipv6: false,
            tunnel: false,
            extra: Vec::new(),
        }
    }
}

/// A client that did not connect.
#[derive(Debug, thiserror::Error)]
pub struct Rejected {
    /// The user.
    pub user: String,
    /// openconnect's exit code; `None` when it was not started or had to be killed.
    pub exit_code: Option<i32>,
    /// openconnect's output.
    pub output: String,
}

impl Rejected {
    pub(crate) fn not_started(user: &str, error: &LabError) -> Self {
        Self {
            user: user.to_owned(),
            exit_code: None,
            output: error.to_string(),
        }
    }

    /// Whether the password or cookie was right and the session was denied: by the connect-script,
    /// or by an ocserv that no longer accepts the cookie.
    #[must_use]
    pub fn is_session_denied(&self) -> bool {
        self.exit_code == Some(2) && self.output.contains("Cookie was rejected by server")
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "openconnect of {} exited with {code}", self.user)?,
            None => write!(f, "openconnect of {} did not exit", self.user)?,
        }
        write!(f, "; its output:\n{}", self.output)
    }
}

/// A client that is connecting. Dropping it kills it.
#[derive(Debug)]
pub struct Connecting {
    user: String,
    device: String,
    process: ManagedProcess,
}

impl Connecting {
    pub(crate) fn start(
        directory: &Path,
        network: &Network,
        number: u32,
        user: &str,
        options: &ConnectOptions,
        dtls: bool,
    ) -> Result<Self, LabError> {
        let script = directory.join(if options.tunnel { "tunnel" } else { "noop" });
        let device = format!("oc{number}");
        let mut command = openconnect(directory, network, user, options)?;
        command.arg("--script").arg(script).args(["--interface", &device]);
        if !dtls {
            command.arg("--no-dtls");
        }
        command.args(&options.extra).arg(url(options));
        let log = directory.join(format!("client-{number}.log"));
        let secret = options.cookie.as_ref().unwrap_or(&options.password);
        let process = ManagedProcess::spawn(
            &format!("openconnect of {user}"),
            command,
            &log,
            format!("{secret}\n").as_bytes(),
        )?;
        Ok(Self {
            user: user.to_owned(),
            device,
            process,
        })
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// When it exited, or was not connected within `bound`; it is killed then.
    pub fn wait(self, bound: Duration) -> Result<Client, Rejected> {
        let line = self.process.wait_for_log("Configured as ", bound);
        let address = line.ok().and_then(|line| vpn_address(&line));
        match address {
            Some(vpn_ip) => Ok(Client {
                user: self.user,
                vpn_ip,
                device: self.device,
                process: self.process,
            }),
            None => Err(self.rejected()),
        }
    }

    /// Returns the process, for its log and for signals.
    #[must_use]
    pub fn process(&self) -> &ManagedProcess {
        &self.process
    }

    /// Kills the client: the server gets no BYE.
    pub fn kill(self) {
        self.process.kill();
    }

    fn rejected(self) -> Rejected {
        let exit_code = self.process.exit().and_then(|status| status.code());
        self.process.kill();
        Rejected {
            user: self.user,
            exit_code,
            output: self.process.logs(),
        }
    }
}

/// Logs in without connecting and returns the cookie.
pub(crate) fn authenticate(
    directory: &Path,
    network: &Network,
    user: &str,
    options: &ConnectOptions,
) -> Result<String, LabError> {
    let mut command = openconnect(directory, network, user, options)?;
    command.arg("--authenticate").arg(url(options));
    let output = run(&mut command, &format!("{}\n", options.password))?;
    let cookie = output
        .lines()
        .find_map(|line| line.strip_prefix("COOKIE='")?.strip_suffix('\''));
    cookie.map(str::to_owned).ok_or_else(|| LabError::Command {
        command: format!("{command:?}"),
        output,
    })
}

/// Returns a command that logs in on the client's node, without a server yet.
fn openconnect(
    directory: &Path,
    network: &Network,
    user: &str,
    options: &ConnectOptions,
) -> Result<Command, LabError> {
    let node = Node::Client(options.network);
    let mut command = network.command(node, &required("openconnect")?);
    let secret = match options.cookie {
        Some(_) => "--cookie-on-stdin",
        None => "--passwd-on-stdin",
    };
    command
        .args([
            "--protocol=anyconnect",
            "--non-inter",
            secret,
            "--user",
            user,
            "--cafile",
        ])
        .arg(directory.join("pki/ca.pem"));
    Ok(command)
}

/// Returns the server's address as the client's network reaches it.
fn url(options: &ConnectOptions) -> String {
    let host = Network::server_address(Node::Client(options.network), options.over_ipv6);
    if options.over_ipv6 {
        format!("https://[{host}]")
    } else {
        format!("https://{host}")
    }
}

/// Reads the address from `Configured as 10.88.63.50, with SSL connected …` or
/// `Configured as 10.88.63.50 + fd88::1/128, …`.
fn vpn_address(line: &str) -> Option<IpAddr> {
    let rest = line.split_once("Configured as ")?.1;
    rest.split([',', ' ', '/']).next()?.parse().ok()
}

/// A connected client. Dropping it stops it as a user does who closes the program.
#[derive(Debug)]
pub struct Client {
    user: String,
    vpn_ip: IpAddr,
    device: String,
    process: ManagedProcess,
}

impl Client {
    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns its address inside the VPN.
    #[must_use]
    pub fn vpn_ip(&self) -> IpAddr {
        self.vpn_ip
    }

    /// Returns the name of its tun device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Returns openconnect's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Returns openconnect's output so far.
    #[must_use]
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    /// Returns the process, for its log and for signals: SIGUSR2 makes it reconnect, SIGHUP makes
    /// it exit without ending its login.
    #[must_use]
    pub fn process(&self) -> &ManagedProcess {
        &self.process
    }

    /// Whether openconnect still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.exit().is_none()
    }

    /// Logs out.
    ///
    /// # Errors
    /// When it does not exit within `bound`.
    pub fn disconnect(self, bound: Duration) -> Result<(), LabError> {
        self.process.signal(Signal::SIGINT);
        self.process.wait_exit(bound).map(drop)
    }

    /// Kills the client: the server gets no BYE.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Waits until the server has ended the session and openconnect has exited; returns its exit
    /// code.
    ///
    /// # Errors
    /// When it still runs after `bound`.
    pub fn wait_ended(&self, bound: Duration) -> Result<Option<i32>, LabError> {
        self.process.wait_exit(bound).map(|status| status.code())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.terminate(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::vpn_address;

    #[test]
    fn the_vpn_address_is_read_from_both_forms_of_the_line() {
        for (line, address) in [
            (
                "Configured as 10.88.63.50, with SSL connected and DTLS disabled",
                Some("10.88.63.50"),
            ),
            (
                "Configured as 10.88.63.50 + fd88::1/128, with SSL connected",
                Some("10.88.63.50"),
            ),
            ("Configured as fd88::1/128, with SSL connected", Some("fd88::1")),
            ("Connected to 10.77.0.1:443", None),
        ] {
            assert_eq!(
                vpn_address(line),
                address.map(|text| text.parse().unwrap()),
                "{line}"
            );
        }
    }
}
