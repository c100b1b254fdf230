//! A reference portal, to develop and demonstrate against: decides logins by a policy file, takes the agent's events
//! and writes all that it hears as lines of JSON; makes certificates for a laptop; asks an agent for its sessions and
//! ends them. `docs/portal-dev.md` is its manual.

mod agent;
mod cli;
mod pki;
mod rfc3339;
mod serve;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    tls::install_provider();
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Sessions(args) => agent::sessions(args),
        Command::Disconnect(args) => agent::disconnect(args),
        Command::Pki(args) => pki::run(&args),
    };
    result.unwrap_or_else(|error| {
        cli::complain(&format!("{error:#}"));
        ExitCode::from(2)
    })
}
