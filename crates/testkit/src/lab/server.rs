//! The ocserv of a lab.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::client::{self, Client, ConnectOptions, Connecting, PASSWORD, Rejected};
use super::error::LabError;
use super::netns::{Network, Node, run};
use super::process::ManagedProcess;
use super::requirements::required;
use super::script::{self, Script};
use crate::pki::Issued;
use crate::wait::BOUND;

/// Settings of a lab's ocserv.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The users, each with a group or without.
    pub users: Vec<(String, Option<String>)>,
    /// The script on connect and disconnect.
    pub script: Script,
    /// `max-clients`.
    pub max_clients: u32,
    /// `restrict-user-to-routes`: ocserv runs its firewall script, which runs the connect-script
    /// with `/bin/sh`.
    pub restrict_user_to_routes: bool,
    /// Routes of all users; empty means the default route.
    pub routes: Vec<String>,
    /// `auth-timeout`.
    pub auth_timeout: Duration,
    /// Whether clients get IPv6 addresses too.
    pub ipv6: bool,
    /// Whether clients use DTLS beside TLS.
    pub dtls: bool,
    /// Further lines of the configuration.
    pub extra: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            script: Script::None,
            max_clients: 300,
            restrict_user_to_routes: false,
            routes: Vec::new(),
            auth_timeout: Duration::from_secs(240),
            ipv6: false,
            dtls: false,
            extra: Vec::new(),
        }
    }
}

/// ocserv on the server node.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    network: Network,
    running: Mutex<Option<Arc<ManagedProcess>>>,
    runs: AtomicU32,
    clients: AtomicU32,
    dtls: bool,
}

impl Server {
    /// Writes configuration, users and script.
    pub(crate) fn prepare(
        directory: &Path,
        network: &Network,
        options: &ServerOptions,
        identity: &Issued,
        agent_socket: &Path,
    ) -> Result<Self, LabError> {
        fs::create_dir_all(directory.join("per-user"))
            .map_err(LabError::io("make a directory for ocserv"))?;
        write_users(directory, &options.users)?;
        let script = script::install(&options.script, directory, agent_socket)?;
        let text = configuration(directory, options, identity, script.as_deref());
        fs::write(directory.join("ocserv.conf"), text).map_err(LabError::io("write ocserv.conf"))?;
        script::executable(&directory.join("noop"), "#!/bin/sh\nexit 0\n")?;
        script::executable(&directory.join("tunnel"), TUNNEL_SCRIPT)?;
        Ok(Self {
            directory: directory.to_owned(),
            network: network.clone(),
            running: Mutex::new(None),
            runs: AtomicU32::new(0),
            clients: AtomicU32::new(0),
            dtls: options.dtls,
        })
    }

    /// Starts or restarts ocserv and waits until clients can log in.
    ///
    /// # Errors
    /// When it does not start; the error has its log.
    pub fn start(&self) -> Result<(), LabError> {
        self.kill();
        let mut command = self.network.command(Node::Server, &required("ocserv")?);
        command
            .args(["--foreground", "--debug", "2", "--config"])
            .arg(self.config());
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("ocserv.{run}.log"));
        let running = ManagedProcess::spawn("ocserv", command, &log, &[])?;
        running.wait_for_log("sec-mod initialized", BOUND)?;
        let socket = self.control_socket();
        running.wait_until("a reply on its control socket", BOUND, || status(&socket).ok())?;
        *self.slot() = Some(Arc::new(running));
        Ok(())
    }

    /// Stops ocserv as its service does: clients get a BYE, disconnect-scripts run.
    ///
    /// # Errors
    /// When it is not running, or had to be killed.
    pub fn stop(&self) -> Result<(), LabError> {
        let running = self.slot().take().ok_or(LabError::NotRunning("ocserv"))?;
        running.signal(Signal::SIGTERM);
        running.wait_exit(BOUND).map(drop)
    }

    /// Kills ocserv's main process; its workers exit when they notice.
    pub fn kill(&self) {
        drop(self.slot().take());
    }

    /// Returns the process, for its log and its pid.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process(&self) -> Result<Arc<ManagedProcess>, LabError> {
        self.slot().clone().ok_or(LabError::NotRunning("ocserv"))
    }

    /// Connects a user with the lab's password from the first client network.
    ///
    /// # Errors
    /// When the client exited or was not connected after [`BOUND`].
    pub fn connect(&self, user: &str) -> Result<Client, Rejected> {
        self.connect_with(user, &ConnectOptions::default())
    }

    /// Connects a user.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_with(&self, user: &str, options: &ConnectOptions) -> Result<Client, Rejected> {
        self.start_client(user, options)?.wait(BOUND)
    }

    /// Starts a client without waiting.
    ///
    /// # Errors
    /// When openconnect could not be started.
    pub fn start_client(&self, user: &str, options: &ConnectOptions) -> Result<Connecting, Rejected> {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        Connecting::start(&self.directory, &self.network, number, user, options, self.dtls)
            .map_err(|error| Rejected::not_started(user, &error))
    }

    /// Logs a user in without connecting and returns the cookie, for [`ConnectOptions::cookie`].
    ///
    /// # Errors
    /// When the login fails.
    pub fn authenticate(&self, user: &str) -> Result<String, LabError> {
        client::authenticate(&self.directory, &self.network, user, &ConnectOptions::default())
    }

    /// Connects users `u1` to `uN` (see [`super::LabBuilder::numbered_users`]) concurrently.
    #[must_use]
    pub fn connect_many(&self, n: u32) -> Vec<Result<Client, Rejected>> {
        let options = ConnectOptions::default();
        let started: Vec<_> = (1..=n)
            .map(|i| self.start_client(&format!("u{i}"), &options))
            .collect();
        started
            .into_iter()
            .map(|client| client?.wait(BOUND + Duration::from_millis(200) * n))
            .collect()
    }

    /// Returns the path of the control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("occtl.sock")
    }

    /// Returns the path of the configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("ocserv.conf")
    }

    /// Returns the directory of the per-user files.
    #[must_use]
    pub fn per_user(&self) -> PathBuf {
        self.directory.join("per-user")
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<ManagedProcess>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks ocserv for its status, one frame each way: a connection without a request would be logged.
fn status(socket: &Path) -> io::Result<()> {
    const STATUS: [u8; 5] = [1, 0, 0, 0, 0];
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.write_all(&STATUS)?;
    stream.read_exact(&mut [0; 5])
}

/// Sets up the tun device as vpnc-script would, as far as the tests need it.
const TUNNEL_SCRIPT: &str = r#"#!/bin/sh
[ "$reason" = connect ] || exit 0
ip link set dev "$TUNDEV" up mtu "${INTERNAL_IP4_MTU:-1300}"
ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
[ -n "$CISCO_SPLIT_INC" ] || ip route add default dev "$TUNDEV"
i=0
while [ "$i" -lt "${CISCO_SPLIT_INC:-0}" ]; do
    eval "net=\$CISCO_SPLIT_INC_${i}_ADDR len=\$CISCO_SPLIT_INC_${i}_MASKLEN"
    ip route add "$net/$len" dev "$TUNDEV"
    i=$((i + 1))
done
exit 0
"#;

/// Writes the password file, with one hash for all users, because hashing is slow.
fn write_users(directory: &Path, users: &[(String, Option<String>)]) -> Result<(), LabError> {
    let path = directory.join("passwd");
    let mut command = std::process::Command::new(required("ocpasswd")?);
    run(
        command.arg("-c").arg(&path).arg("model"),
        &format!("{PASSWORD}\n"),
    )?;
    let model = fs::read_to_string(&path).map_err(LabError::io("read the password file"))?;
    let hash = model.trim_end().rsplit(':').next().unwrap_or_default().to_owned();
    let line = |(user, group): &(String, Option<String>)| {
        format!("{user}:{}:{hash}\n", group.as_deref().unwrap_or("*"))
    };
    let text: String = users.iter().map(line).collect();
    fs::write(&path, text).map_err(LabError::io("write the password file"))
}

fn configuration(
    directory: &Path,
    options: &ServerOptions,
    identity: &Issued,
    script: Option<&Path>,
) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut lines = vec![
        format!("auth = \"plain[passwd={}]\"", at("passwd")),
        "tcp-port = 443".to_owned(),
        "run-as-user = nobody".to_owned(),
        "run-as-group = nogroup".to_owned(),
        format!("socket-file = {}", at("worker")),
        format!("server-cert = {}", identity.cert.display()),
        format!("server-key = {}", identity.key.display()),
        "use-occtl = true".to_owned(),
        format!("occtl-socket-file = {}", at("occtl.sock")),
        format!("pid-file = {}", at("ocserv.pid")),
        "log-level = 2".to_owned(),
        format!("max-clients = {}", options.max_clients),
        "max-same-clients = 0".to_owned(),
        "isolate-workers = false".to_owned(),
        "device = bvpn".to_owned(),
        "ipv4-network = 10.88.0.0/16".to_owned(),
        format!("config-per-user = {}", at("per-user")),
        format!("auth-timeout = {}", options.auth_timeout.as_secs()),
        "cookie-timeout = 300".to_owned(),
        format!("restrict-user-to-routes = {}", options.restrict_user_to_routes),
    ];
    if options.dtls {
        lines.push("udp-port = 443".to_owned());
    }
    if options.ipv6 {
        lines.push("ipv6-network = fd88::/48".to_owned());
        lines.push("ipv6-subnet-prefix = 128".to_owned());
    }
    if let Some(script) = script {
        for option in ["connect-script", "disconnect-script"] {
            lines.push(format!("{option} = {}", script.display()));
        }
    }
    lines.extend(options.routes.iter().map(|route| format!("route = {route}")));
    lines.extend(options.extra.iter().cloned());
    lines.push(String::new());
    lines.join("\n")
}
