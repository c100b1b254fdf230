//! Arguments and exit codes; everything else is `agent`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::admin::FetchError;
use agent::config::{DEFAULT_PATH, ENV_PREFIX, ipc_socket};
use agent::{ConfigSource, ExitReason, StartError, Supervision};
use clap::{Parser, Subcommand};

/// The agent stopped as requested, or the command succeeded.
const EXIT_OK: u8 = 0;
/// The agent could not start or failed, or the command failed.
const EXIT_FAILED: u8 = 1;
/// The arguments or the configuration are invalid: a restart does not help. clap exits with 2 too.
const EXIT_BAD_CONFIG: u8 = 2;
/// The shutdown timed out, or was ended by a second signal.
const EXIT_INCOMPLETE_SHUTDOWN: u8 = 3;

/// Connects ocserv to a portal that authorizes logins, lists sessions and disconnects users
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 stopped as requested; 1 could not start, or failed; \
                  2 invalid arguments or configuration; 3 shutdown timed out with work left."
)]
struct Arguments {
    /// Path of the configuration file
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH, global = true)]
    config: PathBuf,
    /// Check the configuration, print it, and exit
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the last login decisions of the running agent, newest first
    #[command(
        after_help = "Reads only ipc.socket from the configuration. Run it as root or as a user in \
                      ipc.allowed_uids.\n\
                      Exit codes: 0 printed, or no decision yet; 1 the agent did not respond, or rejected the \
                      request; 2 invalid arguments, or no socket path in the configuration."
    )]
    Decisions {
        /// Path of the agent's socket; the default is ipc.socket of the configuration
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
        /// Print only decisions about this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// List the events that wait for the portal, or that it rejected, and send the latter again
    #[command(
        after_help = "Reads only ipc.socket from the configuration. Run it as root or as a user in \
                      ipc.allowed_uids.\n\
                      Exit codes: 0 done; 1 the agent did not respond, or rejected the request; \
                      2 invalid arguments, or no socket path in the configuration."
    )]
    Events {
        /// Path of the agent's socket; the default is ipc.socket of the configuration
        #[arg(long, value_name = "PATH", global = true)]
        socket: Option<PathBuf>,
        #[command(subcommand)]
        command: EventsCommand,
    },
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Print the events that wait for the portal, oldest first
    List {
        /// Print only events of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Print the events that the portal rejected, oldest first
    Dead {
        /// Print only events of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Send events again that the portal rejected
    Retry {
        /// The event's ID, as `events dead` prints it
        #[arg(value_name = "EVENT", required_unless_present = "all")]
        event_id: Option<String>,
        /// Send all of them
        #[arg(long, conflicts_with = "event_id")]
        all: bool,
    },
}

fn main() -> ExitCode {
    ExitCode::from(run(Arguments::parse()))
}

fn run(arguments: Arguments) -> u8 {
    match arguments.command {
        Some(Command::Decisions { socket, user }) => {
            return print(&arguments.config, socket, "decisions", |socket| {
                agent::admin::decisions::fetch(socket, user.as_deref())
            });
        }
        Some(Command::Events { socket, command }) => {
            return print(&arguments.config, socket, "events", |socket| {
                events(&command, socket)
            });
        }
        None => {}
    }
    let source = ConfigSource {
        path: arguments.config,
        environment: environment(),
    };
    if arguments.check_config {
        return check_config(&source);
    }
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| agent::is_journal(&stream));
    let supervision = Supervision {
        notify: std::env::var_os("NOTIFY_SOCKET").is_some(),
        journal,
    };
    let report = |problem: &str| eprint!("{}", agent::error_lines(problem, journal));
    match agent::run(source, supervision) {
        Ok(ExitReason::Drained) => EXIT_OK,
        Ok(ExitReason::CutShort) => EXIT_INCOMPLETE_SHUTDOWN,
        Ok(ExitReason::Failed) => EXIT_FAILED,
        Err(StartError::Config(error)) => {
            report(&error.to_string());
            EXIT_BAD_CONFIG
        }
        Err(error) => {
            report(&format!("could not start: {:#}", anyhow::Error::new(error)));
            EXIT_FAILED
        }
    }
}

fn check_config(source: &ConfigSource) -> u8 {
    match source.check() {
        Ok(summary) => {
            print!("{summary}");
            EXIT_OK
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_BAD_CONFIG
        }
    }
}

fn events(command: &EventsCommand, socket: &Path) -> Result<String, FetchError> {
    use agent::admin::events;
    match command {
        EventsCommand::List { user } => events::list(socket, user.as_deref()),
        EventsCommand::Dead { user } => events::dead(socket, user.as_deref()),
        EventsCommand::Retry { event_id, .. } => events::retry(socket, event_id.as_deref()),
    }
}

/// Prints what `fetch` gets from the agent's socket; `what` names it.
fn print(
    config: &Path,
    socket: Option<PathBuf>,
    what: &str,
    fetch: impl FnOnce(&Path) -> Result<String, FetchError>,
) -> u8 {
    let socket = match socket.map_or_else(|| ipc_socket(config, environment()), Ok) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}\nuse --socket PATH to set the path of the agent's socket");
            return EXIT_BAD_CONFIG;
        }
    };
    match fetch(&socket) {
        Ok(table) => {
            // A closed pipe (`| head`) is no failure.
            let _written = io::stdout().write_all(table.as_bytes());
            EXIT_OK
        }
        Err(error) => {
            eprintln!(
                "could not fetch {what} from the agent at {}: {error}",
                socket.display()
            );
            EXIT_FAILED
        }
    }
}

/// Returns the environment variables that set keys. The configuration's checks report a value that
/// is not UTF-8.
fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let sets_key = |(name, _): &(String, String)| name.starts_with(ENV_PREFIX);
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .filter(sets_key)
        .collect()
}
