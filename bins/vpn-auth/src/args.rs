//! The command line. Parsed by hand: five flags, in a program that starts on every login.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

/// The default of `--socket`.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ocserv-agent/ipc.sock";

/// The default of `--deadline`.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(4);

/// Output of `--help`.
pub(crate) const HELP: &str = "\
Requests the decision on a VPN login from ocserv-agent. Run by ocserv's connect-script.

Usage: vpn-auth [--socket PATH] [--deadline TIME] [--on-agent-down deny|allow]

  --socket PATH          the agent's socket, an absolute path [/run/ocserv-agent/ipc.sock]
  --deadline TIME        limit for connect, request and response, as 500ms, 4s or 1m [4s]
  --on-agent-down WHAT   deny or allow when the agent gives no answer at all [deny]: it is not
                         reachable, times out, or closes the connection; never overrides a
                         deny or an invalid response
  --help, --version

Reads ocserv's variables (REASON, USERNAME, ID, ...).
Exit codes: 0 allow, 1 deny, 2 no answer from an agent, 3 invalid response,
4 bad environment or flags.
";

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Decide a login.
    Run(Args),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Settings of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// Limit for connect, request and response together; 1 ms to 1 h.
    pub(crate) deadline: Duration,
    /// The decision without an agent.
    pub(crate) on_agent_down: OnAgentDown,
}

/// The decision when the agent gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnAgentDown {
    /// Deny.
    Deny,
    /// Allow.
    Allow,
}

/// Why the command line is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ArgsError {
    /// An unknown argument.
    Unknown(String),
    /// A flag without a value.
    NoValue(&'static str),
    /// A flag with an invalid value.
    BadValue {
        flag: &'static str,
        value: String,
        expected: &'static str,
    },
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "unknown argument {word}, see --help"),
            Self::NoValue(flag) => write!(f, "{flag} needs a value, see --help"),
            Self::BadValue {
                flag,
                value,
                expected,
            } => write!(f, "{flag} takes {expected}, not {value}"),
        }
    }
}

/// Parses the arguments after the program's name. The last of a repeated flag counts.
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
        let bad = |expected| ArgsError::BadValue {
            flag,
            value: value.to_string_lossy().into_owned(),
            expected,
        };
        match flag {
            "--socket" => {
                args.socket = PathBuf::from(&value);
                // A relative path would depend on the directory that ocserv was started in.
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

/// Parses `500ms`, `4s`, `1m`: a whole number, from 1 ms to 1 h.
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
