//! A running lab, and the resources that it releases when it ends.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::agent::Agent;
use super::error::LabError;
use super::netns::{Network, Node};
use super::occtl_cli::{self, Row};
use super::portal_dev::PortalDev;
use super::process::ManagedProcess;
use super::registry::{self, Registration};
use super::server::Server;
use crate::pki::Pki;
use crate::wait;

/// One running lab. Dropping it stops every program in it and removes its namespaces.
#[derive(Debug)]
pub struct Lab {
    pub(super) agent: Agent,
    pub(super) portal_dev: PortalDev,
    pub(super) server: Server,
    pub(super) pki: Pki,
    pub(super) environment: Environment,
}

impl Lab {
    /// Returns ocserv, through which clients connect.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Returns the agent. It runs if the builder started it, or after its `start`.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Returns the reference portal. It runs if the builder started it, or after its `start`.
    #[must_use]
    pub fn portal_dev(&self) -> &PortalDev {
        &self.portal_dev
    }

    /// Returns the certificate authority that every program in the lab trusts.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Returns the directory of the lab's files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.environment.directory()
    }

    /// Returns the names of the lab's network namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.environment.namespaces.clone()
    }

    /// Lists every row of `occtl show users`: sessions, and connections before their login.
    ///
    /// # Errors
    /// When ocserv does not answer.
    pub fn rows(&self) -> Result<Vec<Row>, LabError> {
        occtl_cli::rows(&self.environment.network, &self.server.control_socket())
    }

    /// Lists a user's connected sessions.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn sessions_of(&self, user: &str) -> Result<Vec<Row>, LabError> {
        let rows = self.rows()?;
        Ok(rows
            .into_iter()
            .filter(|row| row.is_connected() && row.username == user)
            .collect())
    }

    /// Waits until a user has `count` connected sessions.
    ///
    /// # Errors
    /// When that does not happen within [`wait::BOUND`].
    pub fn wait_for_sessions(&self, user: &str, count: usize) -> Result<Vec<Row>, LabError> {
        let what = format!("{count} sessions of {user}");
        let rows = wait::until(&what, wait::BOUND, || {
            self.sessions_of(user).ok().filter(|rows| rows.len() == count)
        });
        Ok(rows?)
    }

    /// Runs `occtl` with these arguments and returns its output.
    ///
    /// # Errors
    /// When it fails or takes longer than 10 s.
    pub fn occtl(&self, arguments: &[&str]) -> Result<String, LabError> {
        occtl_cli::occtl(
            &self.environment.network,
            &self.server.control_socket(),
            arguments,
        )
    }

    /// Returns a command that runs a program on a node.
    #[must_use]
    pub fn command(&self, node: Node, program: &str) -> Command {
        self.environment.network.command(node, Path::new(program))
    }

    /// Starts a program that keeps running; its output goes to `<name>.log` in the lab's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<ManagedProcess, LabError> {
        ManagedProcess::spawn(name, command, &self.directory().join(format!("{name}.log")), &[])
    }

    /// Listens on a node, for a double in this process.
    ///
    /// # Errors
    /// As `TcpListener::bind`.
    pub fn bind_tcp(&self, node: Node, address: SocketAddr) -> io::Result<TcpListener> {
        self.environment.network.bind_tcp(node, address)
    }

    /// Connects from a node.
    ///
    /// # Errors
    /// As `TcpStream::connect_timeout`, after 5 s.
    pub fn connect_tcp(&self, node: Node, address: SocketAddr) -> io::Result<TcpStream> {
        self.environment
            .network
            .connect_tcp(node, address, Duration::from_secs(5))
    }

    /// Returns a function that listens on a node, for a double that outlives its listener.
    pub fn binder(
        &self,
        node: Node,
        address: SocketAddr,
    ) -> impl Fn() -> io::Result<TcpListener> + Send + use<> {
        let network = self.environment.network.clone();
        move || network.bind_tcp(node, address)
    }

    /// Partitions the server from a node: packets are dropped in both directions and no reset is
    /// sent.
    ///
    /// # Errors
    /// When the packet filter cannot be set.
    pub fn partition(&self, node: Node) -> Result<(), LabError> {
        self.environment.network.partition(node, true)
    }

    /// Ends [`Self::partition`].
    ///
    /// # Errors
    /// When the packet filter cannot be set.
    pub fn heal(&self, node: Node) -> Result<(), LabError> {
        self.environment.network.partition(node, false)
    }

    /// Takes a node's link down or up.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn set_link(&self, node: Node, up: bool) -> Result<(), LabError> {
        self.environment.network.link(node, up)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // In this order, so that the agent stops cleanly; the environment kills the rest.
        if let Ok(agent) = self.agent.process() {
            agent.terminate(Duration::from_secs(1));
        }
        self.portal_dev.kill();
    }
}

/// The name, the namespaces and the files of a lab. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) network: Network,
    pub(super) namespaces: Vec<String>,
    pub(super) directory: Option<TempDir>,
    pub(super) registration: Registration,
}

impl Environment {
    pub(super) fn directory(&self) -> &Path {
        self.directory
            .as_ref()
            .map_or(Path::new("/nonexistent"), TempDir::path)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        registry::clear(&self.namespaces);
        let keep = thread::panicking() || env::var_os("OCSERV_AGENT_KEEP").is_some();
        if let Some(directory) = self.directory.take()
            && keep
        {
            eprintln!(
                "the files of lab {} are kept in {}",
                self.registration.name(),
                directory.keep().display()
            );
        }
    }
}
