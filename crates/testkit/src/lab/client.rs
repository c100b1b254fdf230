//! The real openconnect clients of a lab.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::netns::{Network, Place};
use super::requirements::required;
use super::server::PASSWORD;
use super::{LabError, Running};

/// How a client connects.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Its password.
    pub password: String,
    /// On which of the lab's client networks it is, counted from 0.
    pub network: u8,
    /// Whether it reaches the server over IPv6.
    pub over_ipv6: bool,
    /// Whether its tun device gets its address and routes, so that traffic can flow.
    pub tunnel: bool,
    /// Further arguments of openconnect.
    pub extra: Vec<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            password: PASSWORD.to_owned(),
            network: 0,
            over_ipv6: false,
            tunnel: false,
            extra: Vec::new(),
        }
    }
}

/// A client that did not get in.
#[derive(Debug, thiserror::Error)]
pub struct Rejected {
    /// Who.
    pub user: String,
    /// openconnect's exit code; `None` when it was not started or had to be killed.
    pub exit_code: Option<i32>,
    /// All that openconnect printed.
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

    /// Whether it was the connect-script that kept the client out: the password was right, the session was refused.
    #[must_use]
    pub fn is_by_script(&self) -> bool {
        self.exit_code == Some(2) && self.output.contains("Cookie was rejected by server")
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "openconnect of {} ended with exit code {code}", self.user)?,
            None => write!(f, "openconnect of {} did not come to an end", self.user)?,
        }
        write!(f, "; it said:\n{}", self.output)
    }
}

/// A client on its way in. Dropping it kills it.
#[derive(Debug)]
pub struct Connecting {
    user: String,
    process: Running,
}

impl Connecting {
    pub(crate) fn begin(
        directory: &Path,
        network: &Network,
        number: u32,
        user: &str,
        options: &ConnectOptions,
        dtls: bool,
    ) -> Result<Self, LabError> {
        let place = Place::Client(options.network);
        let host = Network::server_address(place, options.over_ipv6);
        let url = if options.over_ipv6 {
            format!("https://[{host}]")
        } else {
            format!("https://{host}")
        };
        let script = directory.join(if options.tunnel { "tunnel" } else { "noop" });
        let mut command: Command = network.command(place, &required("openconnect")?);
        command
            .args([
                "--protocol=anyconnect",
                "--non-inter",
                "--passwd-on-stdin",
                "--user",
                user,
            ])
            .arg("--cafile")
            .arg(directory.join("pki/ca.pem"))
            .arg("--script")
            .arg(script)
            .args(["--interface", &format!("oc{number}")]);
        if !dtls {
            command.arg("--no-dtls");
        }
        command.args(&options.extra).arg(url);
        let log = directory.join(format!("client-{number}.log"));
        let input = format!("{}\n", options.password);
        let process = Running::spawn(&format!("openconnect of {user}"), command, &log, input.as_bytes())?;
        Ok(Self {
            user: user.to_owned(),
            process,
        })
    }

    /// Waits until the client is in.
    ///
    /// # Errors
    /// When it ended, or was not in within the bound; it is killed then.
    pub fn wait(self, bound: Duration) -> Result<Client, Rejected> {
        let line = self.process.wait_for_log("Configured as ", bound);
        let address = line.ok().and_then(|line| vpn_address(&line));
        match address {
            Some(vpn_ip) => Ok(Client {
                user: self.user,
                vpn_ip,
                process: self.process,
            }),
            None => Err(self.rejected()),
        }
    }

    /// The process, to look at or to hurt.
    #[must_use]
    pub fn process(&self) -> &Running {
        &self.process
    }

    /// Kills the client without a word to the server.
    pub fn vanish(self) {
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

/// The address in `Configured as 10.88.63.50, with SSL connected …` or `Configured as 10.88.63.50 + fd88::1/128, …`.
fn vpn_address(line: &str) -> Option<IpAddr> {
    let rest = line.split_once("Configured as ")?.1;
    rest.split([',', ' ', '/']).next()?.parse().ok()
}

/// A client that is in. Dropping it ends it as a user does who closes the program.
#[derive(Debug)]
pub struct Client {
    user: String,
    vpn_ip: IpAddr,
    process: Running,
}

impl Client {
    /// Who.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its address inside the VPN.
    #[must_use]
    pub fn vpn_ip(&self) -> IpAddr {
        self.vpn_ip
    }

    /// openconnect's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// All that openconnect has printed.
    #[must_use]
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    /// The process, for its log and for signals: SIGUSR2 makes it reconnect, SIGHUP makes it go and keep its cookie.
    #[must_use]
    pub fn process(&self) -> &Running {
        &self.process
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.exit().is_none()
    }

    /// Logs out.
    ///
    /// # Errors
    /// When it does not end within the bound.
    pub fn disconnect(self, bound: Duration) -> Result<(), LabError> {
        self.process.signal(Signal::SIGINT);
        self.process.wait_exit(bound).map(drop)
    }

    /// Kills the client without a word to the server.
    pub fn vanish(self) {
        self.process.kill();
    }

    /// Waits until the server has ended the session and the client has given up; returns its exit code.
    ///
    /// # Errors
    /// When it still runs after the bound.
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
