//! Setting up the process's log and changing its level while it runs.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

use crate::json::JsonLines;
use crate::writer::{self, LineSink};

/// How long a process that ends waits for the reader of its log.
const FLUSH_AT_END: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, for programs.
    Json,
    /// Text for people and for the journal.
    Text,
}

/// Where our own lines come from: the crates of this project by the beginning of their names, and the two kinds of lines
/// with a name of their own.
const OURS: [&str; 14] = [
    "agent",
    "audit",
    "authz",
    "ipc",
    "occtl",
    "ocserv",
    "outbox",
    "policy",
    "portal",
    "resilience",
    "session",
    "sessions",
    "telemetry",
    "tls",
];

/// Which lines are written: a level (`debug`), or a level and others for parts of the program (`debug,h2=warn`).
///
/// The level is that of our own lines. Libraries say nothing below `info` unless they are in the list: at `debug` HTTP/2
/// alone writes several lines for each frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    text: String,
    targets: Targets,
}

/// A text that is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,h2=warn`")]
pub struct LevelError;

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let mut words = text.split(',');
        let ours = words.next().unwrap_or_default();
        // tracing takes digits, too.
        if ours.bytes().any(|b| b.is_ascii_digit()) {
            return Err(LevelError);
        }
        let ours: tracing::Level = ours.parse().map_err(|_| LevelError)?;
        let parts: Vec<&str> = words.collect();
        // `Targets` takes any word for the name of a part with everything switched on, a misspelt level, too.
        if !parts.iter().all(|part| part.contains('=')) {
            return Err(LevelError);
        }
        let parts = match parts.as_slice() {
            [] => Targets::new(),
            parts => parts.join(",").parse().map_err(|_| LevelError)?,
        };
        let targets = Targets::new()
            .with_default(ours.min(tracing::Level::INFO))
            .with_targets(OURS.map(|target| (target, ours)))
            .with_targets(parts);
        Ok(Self {
            text: text.to_owned(),
            targets,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a log needs to know.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Which lines.
    pub level: Level,
    /// In which shape.
    pub format: Format,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The thread that writes could not be started.
    #[error("the log's writer could not start")]
    Thread(#[source] std::io::Error),
    /// The process has a log already.
    #[error("the process has a log already")]
    Taken(#[source] TryInitError),
}

/// The running log. Dropping it waits, for a second at most, until what was logged is written.
#[derive(Debug)]
pub struct Logs {
    targets: reload::Handle<Targets, Registry>,
    sink: LineSink,
}

/// Sends everything that the process logs from now on to standard error, through a bounded queue and a thread of its
/// own: when whoever reads standard error stalls, lines are dropped and counted, and the count is logged once it reads
/// again. `clock` gives the time of JSON lines.
///
/// # Errors
/// When the writer's thread cannot start or the process has a log already.
pub fn init(settings: &LogSettings, clock: fn() -> SystemTime) -> Result<Logs, InitError> {
    let sink = writer::start(std::io::stderr()).map_err(InitError::Thread)?;
    let (filter, targets) = reload::Layer::new(settings.level.targets.clone());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Json => Box::new(JsonLines::new(sink.clone(), clock)),
        Format::Text => Box::new(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(sink.clone()),
        ),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(InitError::Taken)?;
    Ok(Logs { targets, sink })
}

impl Logs {
    /// Changes which lines are written, from now on.
    pub fn set_level(&self, level: &Level) {
        // The only error is that the subscriber is gone, and then there is nobody left to tell.
        let _gone = self.targets.reload(level.targets.clone());
    }

    /// How many lines were dropped because the reader of standard error was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.sink.flush(FLUSH_AT_END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as L;

    #[test]
    fn a_level_is_a_level_or_a_list_that_begins_with_one() {
        for good in [
            "error",
            "warn",
            "info",
            "debug",
            "trace",
            "INFO",
            "info,h2=warn",
            "debug,a::b=trace",
        ] {
            assert_eq!(good.parse::<Level>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "inof",
            "h2=warn",
            "h2",
            "3",
            "info,",
            "info,h2=loud",
            "info,inof",
            "info,debug",
            "verbose",
        ] {
            assert_eq!(bad.parse::<Level>(), Err(LevelError), "{bad:?}");
        }
    }

    #[test]
    fn a_level_is_that_of_our_own_lines_and_libraries_are_quiet_unless_they_are_listed() {
        let h2 = "h2::codec::framed_read";
        let core = "agent::app";
        for (text, target, level, written) in [
            ("debug", core, L::DEBUG, true),
            ("debug", "portal::connection_manager", L::DEBUG, true),
            ("debug", "ocserv_agent", L::DEBUG, true),
            ("debug", "occtl::socket", L::DEBUG, true),
            ("debug", h2, L::DEBUG, false),
            ("debug", h2, L::INFO, true),
            ("trace", h2, L::DEBUG, false),
            ("debug,h2=debug", h2, L::DEBUG, true),
            ("debug,h2=debug", "hyper::proto", L::DEBUG, false),
            ("debug,agent=info", core, L::DEBUG, false),
            ("info,agent::app=debug", core, L::DEBUG, true),
            ("info,agent=warn", core, L::INFO, false),
            ("info", "audit", L::INFO, true),
            ("info", "session", L::INFO, true),
            ("warn", "session", L::INFO, false),
            ("warn", h2, L::INFO, false),
            ("error", h2, L::WARN, false),
        ] {
            let Level { targets, .. } = text.parse().unwrap();
            assert_eq!(
                targets.would_enable(target, &level),
                written,
                "{text}: {level} of {target}"
            );
        }
    }
}
