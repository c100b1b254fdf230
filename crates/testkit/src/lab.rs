//! Real ocserv and openconnect, the agent and the reference portal, in network namespaces.
//!
//! ```no_run
//! use testkit::lab::{AgentOptions, Lab};
//!
//! let builder = Lab::builder("allow").users(&["alice"]);
//! let lab = builder.agent(AgentOptions::default()).start().unwrap();
//! let alice = lab.server().connect("alice").unwrap();
//! assert_eq!(lab.sessions_of("alice").unwrap()[0].vpn_ip, Some(alice.vpn_ip()));
//! ```
//!
//! A lab needs root. Any number of labs can run at once, in one process and in several. Dropping a
//! lab removes everything; its files are kept when its test panicked or `OCSERV_AGENT_KEEP` is set,
//! and their path is printed. What a killed test process left is removed by the next lab.
//!
//! | node | namespace | addresses |
//! |---|---|---|
//! | [`Node::Server`] | `oa<pid>-<n>s` | to clients 10.77.*k*.1, fd77:*k*::1; to the portal 10.78.0.1, fd78::1 |
//! | [`Node::Portal`] | `oa<pid>-<n>p` | 10.78.0.2, fd78::2 |
//! | [`Node::Client`]`(k)` | `oa<pid>-<n>c<k>` | 10.77.*k*.2, fd77:*k*::2 |

mod agent;
mod builder;
mod client;
mod error;
mod handle;
mod ipc_request;
mod netns;
mod occtl_cli;
mod portal_dev;
mod process;
mod registry;
mod requirements;
mod script;
mod server;

pub use agent::{AGENT_GRPC, Agent, AgentOptions, PORTAL};
pub use builder::LabBuilder;
pub use client::{Client, ConnectOptions, Connecting, PASSWORD, Rejected};
pub use error::LabError;
pub use handle::Lab;
pub use ipc_request::IpcRequest;
pub use netns::Node;
pub use occtl_cli::Row;
pub use portal_dev::{PortalDev, PortalOptions};
pub use process::ManagedProcess;
pub use requirements::{OcservVersion, check as check_requirements, ocserv_version, own_program};
pub use script::{OnAgentDown, Script};
pub use server::{Server, ServerOptions};
