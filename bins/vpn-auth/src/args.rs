//! The flags. By hand: there are five, and the helper starts on every login.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

/// Where the agent listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ocserv-agent/ipc.sock";

/// How long everything may take unless told otherwise.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(4);

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Asks ocserv-agent whether a VPN login may go on. Run by ocserv's connect-script.

Usage: vpn-auth [--socket PATH] [--deadline TIME] [--on-agent-down deny|allow]

  --socket PATH          the agent's socket, an absolute path [/run/ocserv-agent/ipc.sock]
  --deadline TIME        for everything, as 500ms, 4s or 1m [4s]
  --on-agent-down WHAT   deny or allow when the agent is not reachable or late [deny];
                         never overrides a deny, nor an answer that is not valid
  --help, --version

The login is described by ocserv's variables (REASON, USERNAME, ID, ...).
Exit codes: 0 allow, 1 deny, 2 agent not reachable or late, 3 invalid answer, 4 bad environment or flags.
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Decide a login.
    Run(Args),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// The settings of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// For connect, question and answer together.
    pub(crate) deadline: Duration,
    /// What a login gets when the agent is not reachable or late.
    pub(crate) on_agent_down: OnAgentDown,
}

/// What a login gets when the agent is not reachable or late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnAgentDown {
    /// It is refused.
    Deny,
    /// It goes on.
    Allow,
}

/// What is wrong with the flags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ArgsError {
    /// Not one of ours.
    Unknown(String),
    /// Nothing follows it.
    NoValue(&'static str),
    /// What follows it is not what it takes.
    BadValue {
        flag: &'static str,
        value: String,
        wants: &'static str,
    },
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "unknown argument {word}, see --help"),
            Self::NoValue(flag) => write!(f, "{flag} needs a value, see --help"),
            Self::BadValue { flag, value, wants } => write!(f, "{flag} takes {wants}, not {value}"),
        }
    }
}

/// Reads the arguments behind the program's name. A flag that comes twice counts the last time.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut args = Args {
        socket: PathBuf::from(DEFAULT_SOCKET),
        deadline: DEFAULT_DEADLINE,
        on_agent_down: OnAgentDown::Deny,
    };
    let mut words = arguments;
    while let Some(word) = words.next() {
        let flag = match word.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--socket") => "--socket",
            Some("--deadline") => "--deadline",
            Some("--on-agent-down") => "--on-agent-down",
            _ => return Err(ArgsError::Unknown(word.to_string_lossy().into_owned())),
        };
        let value = words.next().ok_or(ArgsError::NoValue(flag))?;
        let bad = |wants| ArgsError::BadValue {
            flag,
            value: value.to_string_lossy().into_owned(),
            wants,
        };
        match flag {
            "--socket" => {
                args.socket = PathBuf::from(&value);
                // Where ocserv was started decides what a relative path means.
                if !args.socket.is_absolute() {
                    return Err(bad("an absolute path"));
                }
            }
            "--deadline" => {
                args.deadline = value
                    .to_str()
                    .and_then(duration)
                    .ok_or_else(|| bad("a time such as 500ms, 4s or 1m"))?;
            }
            _ => {
                args.on_agent_down = match value.to_str() {
                    Some("deny") => OnAgentDown::Deny,
                    Some("allow") => OnAgentDown::Allow,
                    _ => return Err(bad("deny or allow")),
                }
            }
        }
    }
    Ok(Command::Run(args))
}

/// `500ms`, `4s`, `1m`: a whole number above zero, up to an hour.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    let total = digits.parse::<u64>().ok()?.checked_mul(milliseconds)?;
    (1..=3_600_000)
        .contains(&total)
        .then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests;
