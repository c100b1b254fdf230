//! Builds and starts a lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::agent::{Agent, AgentOptions};
use super::error::LabError;
use super::handle::{Environment, Lab};
use super::netns::{Network, Node};
use super::portal_dev::{PortalDev, PortalOptions};
use super::registry::Registration;
use super::requirements::check;
use super::script::{OnAgentDown, Script};
use super::server::{Server, ServerOptions};
use crate::pki::{Pki, Validity};

/// Collects the settings of a lab.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    name: String,
    server: ServerOptions,
    on_agent_down: OnAgentDown,
    deployed_script: bool,
    client_networks: u8,
    agent: Option<AgentOptions>,
    portal: Option<PortalOptions>,
}

impl Lab {
    /// Builds a lab; `name` is its test's, for the directory of its files.
    #[must_use]
    pub fn builder(name: &str) -> LabBuilder {
        LabBuilder {
            name: name.to_owned(),
            server: ServerOptions::default(),
            on_agent_down: OnAgentDown::Deny,
            deployed_script: false,
            client_networks: 1,
            agent: None,
            portal: None,
        }
    }
}

impl LabBuilder {
    /// Adds users without a group.
    #[must_use]
    pub fn users(mut self, names: &[&str]) -> Self {
        self.server
            .users
            .extend(names.iter().map(|&name| (name.to_owned(), None)));
        self
    }

    /// Adds a user in a group.
    #[must_use]
    pub fn user_in(mut self, name: &str, group: &str) -> Self {
        self.server.users.push((name.to_owned(), Some(group.to_owned())));
        self
    }

    /// Adds users `u1` to `uN`, for [`Server::connect_many`].
    #[must_use]
    pub fn numbered_users(mut self, n: u32) -> Self {
        self.server.users.extend((1..=n).map(|i| (format!("u{i}"), None)));
        self
    }

    /// Changes the settings of ocserv.
    #[must_use]
    pub fn server(mut self, change: impl FnOnce(&mut ServerOptions)) -> Self {
        change(&mut self.server);
        self
    }

    /// Sets ocserv's connect-script. Without it, a lab with an agent has the deployed wrapper.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.server.script = script;
        self
    }

    /// Sets the deployed wrapper as connect-script, also for a lab whose agent starts later.
    #[must_use]
    pub fn deployed_script(mut self) -> Self {
        self.deployed_script = true;
        self
    }

    /// Sets the deployed wrapper to allow logins while the agent is down.
    #[must_use]
    pub fn on_agent_down_allow(mut self) -> Self {
        self.on_agent_down = OnAgentDown::Allow;
        self.deployed_script = true;
        self
    }

    /// Sets the number of client networks, each with addresses of its own; 1 by default.
    #[must_use]
    pub fn client_networks(mut self, n: u8) -> Self {
        self.client_networks = n;
        self
    }

    /// Starts the agent, with the deployed wrapper as connect-script.
    #[must_use]
    pub fn agent(mut self, options: AgentOptions) -> Self {
        self.agent = Some(options);
        self.deployed_script = true;
        self
    }

    /// Starts the reference portal with this policy file.
    #[must_use]
    pub fn portal_dev(self, policy: &str) -> Self {
        self.portal_dev_with(PortalOptions {
            policy: policy.to_owned(),
            ..PortalOptions::default()
        })
    }

    /// Starts the reference portal.
    #[must_use]
    pub fn portal_dev_with(mut self, options: PortalOptions) -> Self {
        self.portal = Some(options);
        self
    }

    /// Starts the portal, ocserv and the agent, as far as the lab has them, and waits until they
    /// are ready.
    ///
    /// # Errors
    /// When a requirement is missing (see [`super::check_requirements`]) or a program does not
    /// start. Nothing is left behind then.
    pub fn start(mut self) -> Result<Lab, LabError> {
        check()?;
        if self.deployed_script && matches!(self.server.script, Script::None) {
            self.server.script = Script::Deployed {
                on_agent_down: self.on_agent_down,
                deadline: self
                    .agent
                    .as_ref()
                    .map_or(Duration::from_secs(4), |agent| agent.helper_deadline),
            };
        }
        let environment = environment(&self.name, self.client_networks)?;
        let directory = environment.directory().to_owned();
        let pki_directory = directory.join("pki");
        fs::create_dir(&pki_directory).map_err(LabError::io("make a directory for certificates"))?;
        let pki = Pki::create(&pki_directory)?;
        let names: Vec<String> = (0..self.client_networks)
            .flat_map(|n| [false, true].map(|ipv6| Network::server_address(Node::Client(n), ipv6)))
            .collect();
        let names: Vec<&str> = std::iter::once("vpn.lab")
            .chain(names.iter().map(String::as_str))
            .collect();
        let ocserv = pki.issue("ocserv", &names, Validity::Now)?;
        let agent = Agent::new(&directory, &environment.network, pki.agent()?);
        let portal_dev = PortalDev::new(&directory, &environment.network, pki.portal()?);
        let server = Server::prepare(
            &directory,
            &environment.network,
            &self.server,
            &ocserv,
            &agent.socket(),
        )?;
        let lab = Lab {
            agent,
            portal_dev,
            server,
            pki,
            environment,
        };
        if let Some(options) = &self.portal {
            lab.portal_dev.start(options)?;
        }
        lab.server.start()?;
        if let Some(options) = &self.agent {
            lab.agent.start(options)?;
        }
        Ok(lab)
    }
}

/// Registers a name, creates the directory and the namespaces.
fn environment(test: &str, client_networks: u8) -> Result<Environment, LabError> {
    let mut registration = Registration::new()?;
    let directory = tempfile::Builder::new()
        .prefix(&format!("{}-{}-", registration.name(), short(test)))
        .tempdir()
        .map_err(LabError::io("make the lab's directory"))?;
    registration.set_directory(directory.path())?;
    // ocserv's workers reach their sockets as another user.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .map_err(LabError::io("open the lab's directory to ocserv"))?;
    let network = Network::new(registration.name(), client_networks)?;
    let namespaces = network.names();
    // From here on what exists is removed when a step fails.
    let environment = Environment {
        network,
        namespaces,
        directory: Some(directory),
        registration,
    };
    environment.network.build()?;
    Ok(environment)
}

/// Shortens a test's name so that the paths of sockets in the directory stay within their limit.
fn short(test: &str) -> String {
    test.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(24)
        .collect()
}
