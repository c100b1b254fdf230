//! Arguments and exit codes; everything else is `agent`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::config::{DEFAULT_PATH, ENV_PREFIX, ipc_socket, preflight};
use agent::{ConfigSource, ExitReason};
use clap::{Parser, Subcommand};

/// It started, ran and stopped as asked; or the config is good.
const EXIT_OK: u8 = 0;
/// It could not start, or a part of it failed for good.
const EXIT_FAILED: u8 = 1;
/// The arguments or the configuration are bad: starting it again will not help. (clap, too, exits with 2.)
const EXIT_BAD_CONFIG: u8 = 2;
/// It was stopped before everybody was answered or every event was delivered.
const EXIT_CUT_SHORT: u8 = 3;

/// Stands next to ocserv: lets the portal decide who may log in, see who is connected, and end sessions.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 as asked, 1 could not start or failed, 2 bad arguments or configuration, \
                                 3 stopped before everything was put away."
)]
struct Arguments {
    /// The configuration.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    /// Check the configuration, show what it says, and end.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the last decisions of the running agent, the last one first: who, when, from where, by whom, why
    #[command(
        after_help = "Needs nothing of the configuration but ipc.socket, and root's rights or those of a user in \
                      ipc.allowed_uids.\n\
                      Exit codes: 0 shown, or there is none; 1 the agent did not answer or refused; \
                      2 bad arguments, or the configuration does not say where the socket is."
    )]
    Decisions {
        /// The agent's socket; without it the configuration says where it is
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Only those about this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

fn main() -> ExitCode {
    ExitCode::from(run(Arguments::parse()))
}

fn run(arguments: Arguments) -> u8 {
    if let Some(Command::Decisions { socket, user }) = arguments.command {
        return show_decisions(&arguments.config, socket, user.as_deref());
    }
    let source = ConfigSource {
        path: arguments.config,
        environment: environment(),
    };
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return EXIT_BAD_CONFIG;
        }
    };
    if arguments.check_config {
        print!("{}", config.summary(&source.path, &preflight(&config)));
        return EXIT_OK;
    }
    match agent::run(config, source) {
        Ok(ExitReason::Drained) => EXIT_OK,
        Ok(ExitReason::CutShort) => EXIT_CUT_SHORT,
        Ok(ExitReason::Failed) => EXIT_FAILED,
        Err(error) => {
            eprintln!("could not start: {:#}", anyhow::Error::new(error));
            EXIT_FAILED
        }
    }
}

fn show_decisions(config: &Path, socket: Option<PathBuf>, user: Option<&str>) -> u8 {
    let socket = match socket.map_or_else(|| ipc_socket(config, environment()), Ok) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}\n--socket PATH says where the agent's socket is");
            return EXIT_BAD_CONFIG;
        }
    };
    match agent::admin::decisions::ask(&socket, user) {
        Ok(table) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _read = io::stdout().write_all(table.as_bytes());
            EXIT_OK
        }
        Err(error) => {
            eprintln!("could not ask the agent at {}: {error}", socket.display());
            EXIT_FAILED
        }
    }
}

/// The variables that set keys. One that is not UTF-8 is shown as far as it can be: the config's check will name it.
fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let ours = |(name, _): &(String, String)| name.starts_with(ENV_PREFIX);
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .filter(ours)
        .collect()
}
