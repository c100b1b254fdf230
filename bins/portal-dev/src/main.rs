//! A reference portal for development and demonstrations: decides logins by a policy file, accepts
//! the agent's events and logs every request as a line of JSON; serves the agents' control streams;
//! creates certificates; lists and disconnects an agent's sessions. `docs/portal-dev.md` is its
//! manual.

mod agent;
mod books;
mod cli;
mod columns;
mod control;
mod control_protocol;
mod pki;
mod rfc3339;
mod serve;
mod subject_name;

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
        Command::Agents(args) => control::agents(&args),
        Command::Action(args) => control::action(args),
        Command::Books(args) => books::run(&args),
        Command::Pki(args) => pki::run(&args),
    };
    result.unwrap_or_else(|error| {
        cli::print_stderr(&format!("{error:#}"));
        ExitCode::from(2)
    })
}
