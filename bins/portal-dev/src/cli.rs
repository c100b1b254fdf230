//! What can be said on the command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use http::Uri;
use tls::IdentityFiles;

use crate::pki::ExtraName;

/// A reference portal for ocserv-agent: decides logins by a policy file and writes what it hears as lines of JSON.
///
/// Exit codes: 0 done; 1 `disconnect` found nothing to end; 2 anything else went wrong.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the portal: AuthService, EventService and gRPC health over mutual TLS 1.3
    Serve(ServeArgs),
    /// List the sessions of an agent's server
    Sessions(SessionsArgs),
    /// End all sessions of a user; exit code 1 when there was none
    Disconnect(DisconnectArgs),
    /// Make a CA and certificates for portal, agent, operator and ocserv on a laptop
    Pki(PkiArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one, and the line "ready on" says which
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// The policy file; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// Where the lines of JSON go: a file to append to, or "-" for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) events: PathBuf,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The agent's gRPC address; port 9443 where none is given
    #[arg(
        long,
        value_name = "https://HOST[:PORT]",
        default_value = "https://127.0.0.1:9443"
    )]
    pub(crate) agent: Uri,
    /// The name that the agent's certificate must bear, where it is not the host of its address
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// Only the sessions of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Print an array of JSON objects and no table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// Whose sessions end
    #[arg(value_name = "USER")]
    pub(crate) user: String,
    /// Why, for the agent's log
    #[arg(long, value_name = "TEXT", default_value = "disconnected by an operator")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PkiArgs {
    /// The directory to make
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Further names and addresses for one of portal, agent, operator and ocserv, or a further identity; repeatable
    #[arg(long = "name", value_name = "NAME=SAN,SAN...")]
    pub(crate) names: Vec<ExtraName>,
    /// How many days the certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=825))]
    pub(crate) days: u16,
    /// Replace the files of an earlier run; certificates of the old CA are worth nothing then
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// A directory made by "portal-dev pki": short for --ca, --cert and --key, each of which may still be given
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// The CAs that the other side's certificate must come from (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl IdentityArgs {
    /// The three files; those of the identity `name` in the `--pki` directory stand in for what was not given.
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
                "say --pki DIR (a directory made by \"portal-dev pki\"), or all of --ca, --cert and --key"
            ),
        }
    }
}

/// One line on standard error; a closed one is no reason to fail.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "portal-dev: {line}");
}

/// Text on standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("could not write to standard output")
}
