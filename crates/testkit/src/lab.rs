//! Real ocserv and openconnect, the agent and the reference portal, in network namespaces of their own.
//!
//! ```no_run
//! use testkit::lab::{AgentOptions, Lab};
//!
//! let lab = Lab::builder("allow").users(&["alice"]).agent(AgentOptions::default()).start().unwrap();
//! let alice = lab.server().connect("alice").unwrap();
//! assert!(lab.rows().unwrap().iter().any(|row| row.is_connected() && row.vpn_ip == Some(alice.vpn_ip())));
//! ```
//!
//! A lab needs root. Any number of them can stand at once, in one process and in several. A lab that is dropped takes
//! everything with it; its files stay when its test panicked or `OCSERV_AGENT_KEEP` is set, and their place is printed.
//! What a killed test process left is swept up by the next lab.
//!
//! | place | namespace | addresses |
//! |---|---|---|
//! | [`Place::Server`] | `oa<pid>-<n>s` | 10.77.*k*.1 and fd77:*k*::1 to clients, 10.78.0.1 and fd78::1 to the portal |
//! | [`Place::Portal`] | `oa<pid>-<n>p` | 10.78.0.2, fd78::2 |
//! | [`Place::Client`]`(k)` | `oa<pid>-<n>c<k>` | 10.77.*k*.2, fd77:*k*::2 |

mod agent;
mod builder;
mod client;
mod error;
mod netns;
mod portal_dev;
mod process;
mod question;
mod registry;
mod requirements;
mod script;
mod server;
mod truth;

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

pub use agent::{AGENT_GRPC, Agent, AgentOptions, PORTAL};
pub use builder::LabBuilder;
pub use client::{Client, ConnectOptions, Connecting, Rejected};
pub use error::LabError;
pub use netns::Place;
pub use portal_dev::{PortalDev, PortalOptions};
pub use process::Running;
pub use question::Question;
pub use requirements::{check as check_requirements, own_program};
pub use script::{OnAgentDown, Script};
pub use server::{PASSWORD, Server, ServerOptions};
pub use truth::Row;

use crate::pki::Pki;
use crate::wait;
use netns::Network;
use registry::Claim;

/// One lab. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Lab {
    agent: Agent,
    portal_dev: PortalDev,
    server: Server,
    pki: Pki,
    site: Site,
}

impl Lab {
    /// Begins a lab; `name` is its test's, for the directory of its files.
    #[must_use]
    pub fn builder(name: &str) -> LabBuilder {
        LabBuilder::new(name)
    }

    /// ocserv, and the clients that connect to it.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The agent; it runs if the builder was told so, or after its `start`.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The reference portal; it runs if the builder was told so, or after its `start`.
    #[must_use]
    pub fn portal_dev(&self) -> &PortalDev {
        &self.portal_dev
    }

    /// The certificate authority that everyone in the lab trusts.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Where the lab's files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.site.directory()
    }

    /// The names of the lab's network namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.site.namespaces.clone()
    }

    /// Every row of `occtl show users`: sessions, and connections before their login.
    ///
    /// # Errors
    /// When ocserv does not answer.
    pub fn rows(&self) -> Result<Vec<Row>, LabError> {
        truth::rows(&self.site.network, &self.server.control_socket())
    }

    /// The sessions of a user that are connected.
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

    /// Waits until a user has so many connected sessions.
    ///
    /// # Errors
    /// When it does not come to that within [`wait::BOUND`].
    pub fn wait_for_sessions(&self, user: &str, count: usize) -> Result<Vec<Row>, LabError> {
        let what = format!("{count} sessions of {user}");
        let rows = wait::until(&what, wait::BOUND, || {
            self.sessions_of(user).ok().filter(|rows| rows.len() == count)
        });
        Ok(rows?)
    }

    /// Runs `occtl` with these words, without a shell, and returns what it printed.
    ///
    /// # Errors
    /// When it fails or takes longer than 10 s.
    pub fn occtl(&self, words: &[&str]) -> Result<String, LabError> {
        truth::occtl(&self.site.network, &self.server.control_socket(), words)
    }

    /// A command that runs a program at a place.
    #[must_use]
    pub fn command(&self, place: Place, program: &str) -> Command {
        self.site.network.command(place, Path::new(program))
    }

    /// Starts a program that stays; its output goes to `<name>.log` in the lab's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Running, LabError> {
        Running::spawn(name, command, &self.directory().join(format!("{name}.log")), &[])
    }

    /// Listens at a place, for a double in this process.
    ///
    /// # Errors
    /// As `TcpListener::bind`.
    pub fn bind_tcp(&self, place: Place, address: SocketAddr) -> io::Result<TcpListener> {
        self.site.network.bind_tcp(place, address)
    }

    /// Connects from a place.
    ///
    /// # Errors
    /// As `TcpStream::connect_timeout`, after 5 s.
    pub fn connect_tcp(&self, place: Place, address: SocketAddr) -> io::Result<TcpStream> {
        self.site
            .network
            .connect_tcp(place, address, Duration::from_secs(5))
    }

    /// A way to listen at a place again and again, for a double that outlives its listener.
    pub fn binder(
        &self,
        place: Place,
        address: SocketAddr,
    ) -> impl Fn() -> io::Result<TcpListener> + Send + use<> {
        let network = self.site.network.clone();
        move || network.bind_tcp(place, address)
    }

    /// Cuts the wire between the server and a place: packets are dropped, nobody gets a reset.
    ///
    /// # Errors
    /// When the packet filter cannot be set.
    pub fn partition(&self, place: Place) -> Result<(), LabError> {
        self.site.network.cut(place)
    }

    /// Mends the wire after [`Self::partition`].
    ///
    /// # Errors
    /// When the packet filter cannot be set.
    pub fn heal(&self, place: Place) -> Result<(), LabError> {
        self.site.network.mend(place)
    }

    /// Pulls the plug of a place, or puts it back.
    ///
    /// # Errors
    /// When the interface cannot be set.
    pub fn set_link(&self, place: Place, up: bool) -> Result<(), LabError> {
        self.site.network.link(place, up)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // In order, so that our programs end as they should; the site kills what is left.
        if let Ok(agent) = self.agent.process() {
            agent.terminate(Duration::from_secs(1));
        }
        self.portal_dev.kill();
    }
}

/// The ground that a lab stands on: its name, its namespaces, its files. Dropping it clears all of that.
#[derive(Debug)]
struct Site {
    network: Network,
    namespaces: Vec<String>,
    directory: Option<TempDir>,
    claim: Claim,
}

impl Site {
    fn directory(&self) -> &Path {
        self.directory
            .as_ref()
            .map_or(Path::new("/nonexistent"), TempDir::path)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        registry::clear(&self.namespaces);
        let keep = thread::panicking() || env::var_os("OCSERV_AGENT_KEEP").is_some();
        if let Some(directory) = self.directory.take()
            && keep
        {
            eprintln!(
                "the files of lab {} stay in {}",
                self.claim.name(),
                directory.keep().display()
            );
        }
    }
}
