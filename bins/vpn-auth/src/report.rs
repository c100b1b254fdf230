//! The one line on stderr, which ocserv's journal gets, and the exit code.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use ipc::{Request, Response, client::ClientError};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::environment::EnvError;

/// The longest line, newline included, in bytes: below the 4096 that a pipe writes atomically.
const MAX_LINE: usize = 1024;

/// The longest value in the line, in characters before escaping.
const MAX_VALUE: usize = 128;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The agent allowed.
    Allowed(Response),
    /// The agent denied.
    Denied(Response),
    /// The agent is down, and `--on-agent-down allow` is set.
    AllowedWithoutAgent(ClientError),
    /// The agent gave no answer.
    AgentDown(ClientError),
    /// The agent sent no valid response.
    InvalidResponse(ClientError),
    /// ocserv's variables are invalid.
    BadEnvironment(EnvError),
    /// The wrapper's flags are invalid.
    BadFlags(String),
}

impl Outcome {
    /// Returns the exit code. Only zero allows the login.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Allowed(_) | Self::AllowedWithoutAgent(_) => 0,
            Self::Denied(_) => 1,
            Self::AgentDown(_) => 2,
            Self::InvalidResponse(_) => 3,
            Self::BadEnvironment(_) | Self::BadFlags(_) => 4,
        }
    }
}

/// A run of the helper, for the line.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The request, if the environment was valid.
    pub(crate) request: Option<&'a Request>,
    /// Start of the process.
    pub(crate) start: Instant,
}

/// Writes the line and returns the exit code.
pub(crate) fn finish(run: &Run<'_>, outcome: &Outcome) -> ExitCode {
    write_stderr(&line(run.request, outcome, run.start.elapsed().as_micros()));
    ExitCode::from(outcome.exit_code())
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Writes to stderr if that does not block: a stalled or closed journal must not delay or change a
/// login.
fn write_stderr(line: &str) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if rustix::event::poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) {
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}

/// Formats the line: `key=value`, with untrusted values quoted and escaped, so that none can forge
/// a line or field.
fn line(request: Option<&Request>, outcome: &Outcome, microseconds: u128) -> String {
    let mut line = String::with_capacity(MAX_LINE);
    // Writing to a String cannot fail.
    let _ = write_line(&mut line, request, outcome, microseconds);
    line.truncate(line.floor_char_boundary(MAX_LINE - 1));
    line.push('\n');
    line
}

fn write_line(
    line: &mut String,
    request: Option<&Request>,
    outcome: &Outcome,
    microseconds: u128,
) -> fmt::Result {
    // Only a connect is allowed or denied; the other reasons are reports.
    let report = request.is_some_and(|request| request.reason != "connect");
    let word = match (report, outcome.exit_code()) {
        (false, 0) => "allow",
        (false, _) => "deny",
        (true, 0) => "recorded",
        (true, _) => "not_recorded",
    };
    write!(line, "vpn-auth: outcome={word} exit={}", outcome.exit_code())?;
    write!(
        line,
        " duration_ms={}.{:03}",
        microseconds / 1000,
        microseconds % 1000
    )?;
    if let Some(request) = request {
        // The reason is one of three keywords.
        write!(line, " reason={}", request.reason)?;
        quoted(line, "id", &request.session_id)?;
        quoted(line, "user", &request.username)?;
    }
    let cause: Cow<'_, str> = match outcome {
        Outcome::Allowed(response) | Outcome::Denied(response) => {
            let fields = [
                ("source", &response.source),
                ("deny_code", &response.deny_code),
                ("error", &response.error),
                ("message", &response.message),
            ];
            for (key, value) in fields {
                if let Some(value) = value {
                    quoted(line, key, value)?;
                }
            }
            return Ok(());
        }
        Outcome::AllowedWithoutAgent(error) => {
            line.push_str(" source=on_agent_down");
            error.to_string().into()
        }
        Outcome::AgentDown(error) | Outcome::InvalidResponse(error) => error.to_string().into(),
        Outcome::BadEnvironment(error) => error.to_string().into(),
        Outcome::BadFlags(error) => error.into(),
    };
    quoted(line, "cause", &cause)
}

/// Writes one field, with control characters, direction marks and quotes escaped.
fn quoted(line: &mut String, key: &str, value: &str) -> fmt::Result {
    write!(line, " {key}=\"")?;
    for character in value.chars().take(MAX_VALUE) {
        write!(line, "{}", character.escape_debug())?;
    }
    if value.chars().nth(MAX_VALUE).is_some() {
        line.push('…');
    }
    line.push('"');
    Ok(())
}

#[cfg(test)]
mod tests;
