//! The one line on stderr, which ends up in ocserv's journal, and the exit code.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use ipc::{Request, Response, client::AskError};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::environment::EnvError;

/// Bytes of a line, its newline included: below the 4096 that a pipe takes whole.
const MAX_LINE: usize = 1024;

/// Characters of a value in the line, before escaping.
const MAX_VALUE: usize = 128;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The agent said so.
    Allowed(Response),
    /// The agent said so.
    Denied(Response),
    /// No agent, and the operator wants to go on without.
    AllowedWithoutAgent(AskError),
    /// No agent, or none in time.
    AgentDown(AskError),
    /// There is an agent, but what it said is no answer.
    NoAnswer(AskError),
    /// ocserv's variables are not what they must be.
    BadEnvironment(EnvError),
    /// The wrapper's flags are not what they must be.
    BadFlags(String),
}

impl Outcome {
    /// The process's exit code. ocserv lets in on zero only.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Allowed(_) | Self::AllowedWithoutAgent(_) => 0,
            Self::Denied(_) => 1,
            Self::AgentDown(_) => 2,
            Self::NoAnswer(_) => 3,
            Self::BadEnvironment(_) | Self::BadFlags(_) => 4,
        }
    }
}

/// What the line says of the run beside its outcome.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// What was asked, if it got that far.
    pub(crate) request: Option<&'a Request>,
    /// When the process began.
    pub(crate) start: Instant,
}

/// Writes the line and gives the exit code.
pub(crate) fn finish(run: &Run<'_>, outcome: &Outcome) -> ExitCode {
    say(&line(run.request, outcome, run.start.elapsed().as_micros()));
    ExitCode::from(outcome.exit_code())
}

/// Writes to stdout for a person.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Writes to stderr if that takes it now. A journal that is stuck or gone must not hold up, or change, a login.
fn say(line: &str) {
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

/// The line: `key=value`, values that others chose in quotes and escaped, so that none can forge another line or field.
fn line(request: Option<&Request>, outcome: &Outcome, microseconds: u128) -> String {
    let mut line = String::with_capacity(MAX_LINE);
    // Writing into a String does not fail.
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
    // Only a connect lets in or keeps out; the other reasons report something.
    let report = request.is_some_and(|request| request.reason != "connect");
    let word = match (report, outcome.exit_code()) {
        (false, 0) => "allow",
        (false, _) => "deny",
        (true, 0) => "noted",
        (true, _) => "not_noted",
    };
    write!(line, "vpn-auth: outcome={word} exit={}", outcome.exit_code())?;
    write!(
        line,
        " duration_ms={}.{:03}",
        microseconds / 1000,
        microseconds % 1000
    )?;
    if let Some(request) = request {
        // The reason is one of three words.
        write!(line, " reason={}", request.reason)?;
        quoted(line, "id", &request.session_id)?;
        quoted(line, "user", &request.username)?;
    }
    let cause: Cow<'_, str> = match outcome {
        Outcome::Allowed(response) | Outcome::Denied(response) => {
            let told = [
                ("source", &response.source),
                ("deny_code", &response.deny_code),
                ("error", &response.error),
                ("message", &response.message),
            ];
            for (key, value) in told {
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
        Outcome::AgentDown(error) | Outcome::NoAnswer(error) => error.to_string().into(),
        Outcome::BadEnvironment(error) => error.to_string().into(),
        Outcome::BadFlags(error) => error.into(),
    };
    quoted(line, "cause", &cause)
}

/// One field. Control characters, direction marks, quotes and the like come out escaped.
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
