//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use http::Uri;
use tls::IdentityFiles;

use crate::subject_name::ExtraNames;

/// The socket of a portal, in the working directory.
const CONTROL_SOCKET: &str = "portal-dev.sock";

/// A reference portal for ocserv-agent: decides logins by a policy file and logs requests as lines
/// of JSON.
///
/// Exit codes: 0 success; 1 `disconnect` found no session, `action` failed or was refused, or
/// `books` do not balance; 2 any other error.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the portal: AuthService, EventService, the agents' control streams and gRPC health
    /// over mutual TLS 1.3
    Serve(ServeArgs),
    /// List an agent's sessions
    Sessions(SessionsArgs),
    /// Disconnect all sessions of a user; exit code 1 when there was none
    Disconnect(DisconnectArgs),
    /// List the agents that have a control stream to a running portal
    Agents(AgentsArgs),
    /// Have an agent execute an action over its control stream; exit code 1 when it fails
    Action(ActionArgs),
    /// Find sessions without exactly one beginning and one end; exit code 1 when there are some
    Books(BooksArgs),
    /// Create a CA and certificates for portal, agent, operator and ocserv
    Pki(PkiArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; with port 0 the line "ready on" has the chosen port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// The policy file; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Log of requests: a file to append lines of JSON to, or "-" for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) events: PathBuf,
    /// Unix socket for "agents" and "action"
    #[arg(long, value_name = "SOCKET", default_value = CONTROL_SOCKET)]
    pub(crate) control: PathBuf,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The agent's gRPC address; the default port is 9443
    #[arg(
        long,
        value_name = "https://HOST[:PORT]",
        default_value = "https://127.0.0.1:9443"
    )]
    pub(crate) agent: Uri,
    /// Expected name in the agent's certificate, if not the host of its address
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// List only the sessions of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Print an array of JSON objects instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// User whose sessions to disconnect
    #[arg(value_name = "USER")]
    pub(crate) user: String,
    /// Reason, for the agent's log
    #[arg(long, value_name = "TEXT", default_value = "disconnected by an operator")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AgentsArgs {
    /// Print an array of JSON objects instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Unix socket of the running portal
    #[arg(long, value_name = "SOCKET", default_value = CONTROL_SOCKET)]
    pub(crate) control: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    /// The agent, by its agent_id
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
    /// The action, such as disconnect_user
    #[arg(value_name = "ACTION")]
    pub(crate) action: String,
    /// Its parameters, such as username=alice
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) parameters: Vec<Parameter>,
    /// Id of the request; the same id again has no second effect. A new one by default
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Longest wait for the result, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) timeout: u64,
    /// Print a JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Unix socket of the running portal
    #[arg(long, value_name = "SOCKET", default_value = CONTROL_SOCKET)]
    pub(crate) control: PathBuf,
}

/// A parameter of an action.
#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Parameter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct BooksArgs {
    /// The file of "serve --events", or "-" for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) events: PathBuf,
    /// Accept sessions that have only begun: they may be connected
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// Print a JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PkiArgs {
    /// Directory to create
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Additional names and addresses for portal, agent, operator or ocserv, or for another
    /// identity; repeatable
    #[arg(long = "name", value_name = "NAME=SAN,SAN...")]
    pub(crate) names: Vec<ExtraNames>,
    /// Validity of the certificates, in days
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=825))]
    pub(crate) days: u16,
    /// Replace the files of an earlier run; certificates of the old CA are no longer trusted
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Directory created by "portal-dev pki": default for --ca, --cert and --key
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// CAs that the peer's certificate must be issued by (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl IdentityArgs {
    /// Returns the three files; the identity `name` in the `--pki` directory is the default of
    /// each.
    pub(crate) fn files(&self, name: &str) -> anyhow::Result<IdentityFiles> {
        let of_pki = |file: String| self.pki.as_ref().map(|dir| dir.join(file));
        let file = |given: &Option<PathBuf>, of_pki: Option<PathBuf>| given.clone().or(of_pki);
        match (
            file(&self.ca, of_pki("ca.pem".to_owned())),
            file(&self.cert, of_pki(format!("{name}.pem"))),
            file(&self.key, of_pki(format!("{name}.key"))),
        ) {
            (Some(ca), Some(cert), Some(key)) => Ok(IdentityFiles { ca, cert, key }),
            _ => bail!(
                "missing --pki DIR (a directory created by \"portal-dev pki\"), or all of --ca, --cert and --key"
            ),
        }
    }
}

/// Prints one line to standard error; ignores a closed one.
pub(crate) fn print_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "portal-dev: {line}");
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("could not write to standard output")
}
