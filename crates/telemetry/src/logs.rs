//! Initialises the process's log and changes its level.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

use crate::journal::JournalText;
use crate::json::JsonLines;
use crate::writer::{self, LineSink};

/// Longest wait for the reader of the log when the process exits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Text.
    Text,
}

/// Targets of this project: prefixes of its crates' names, and the targets `audit` and `session`.
const OWN_TARGETS: [&str; 14] = [
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

/// A log level (`debug`), or a level and others for some targets (`debug,h2=warn`).
///
/// The level applies to this project's targets. Libraries log nothing below `info` unless listed:
/// at `debug` HTTP/2 alone writes several lines per frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    text: String,
    targets: Targets,
}

/// The text is not a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,h2=warn`")]
pub struct LevelError;

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let mut directives = text.split(',');
        let own = directives.next().unwrap_or_default();
        // tracing also accepts digits.
        if own.bytes().any(|b| b.is_ascii_digit()) {
            return Err(LevelError);
        }
        let own: tracing::Level = own.parse().map_err(|_| LevelError)?;
        let parts: Vec<&str> = directives.collect();
        // `Targets` would accept a misspelt level as a target with everything enabled.
        if !parts.iter().all(|part| part.contains('=')) {
            return Err(LevelError);
        }
        let parts = match parts.as_slice() {
            [] => Targets::new(),
            parts => parts.join(",").parse().map_err(|_| LevelError)?,
        };
        let targets = Targets::new()
            .with_default(own.min(tracing::Level::INFO))
            .with_targets(OWN_TARGETS.map(|target| (target, own)))
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

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The lines to write.
    pub level: Level,
    /// Their format.
    pub format: Format,
    /// Whether standard error is systemd's journal: lines begin with their priority, and text lines
    /// have no time of their own.
    pub journal: bool,
}

/// Why the log could not be initialised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The writer thread could not start.
    #[error("the log's writer could not start")]
    Thread(#[source] std::io::Error),
    /// The process already has a log.
    #[error("the process already has a log")]
    AlreadySet(#[source] TryInitError),
}

/// The running log. Dropping it waits at most a second until all lines are written.
#[derive(Debug)]
pub struct Logs {
    targets: reload::Handle<Targets, Registry>,
    sink: LineSink,
}

/// Writes all log lines of the process to standard error, through a bounded queue and a writer
/// thread: when the reader of standard error stalls, lines are dropped and counted, and the count
/// is logged later. `clock` is the time of JSON lines.
///
/// # Errors
/// [`InitError`] when the writer thread cannot start or the process already has a log.
pub fn init(settings: &LogSettings, clock: fn() -> SystemTime) -> Result<Logs, InitError> {
    let sink = writer::start(std::io::stderr()).map_err(InitError::Thread)?;
    let (filter, targets) = reload::Layer::new(settings.level.targets.clone());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Json => Box::new(JsonLines::new(sink.clone(), clock, settings.journal)),
        Format::Text if settings.journal => Box::new(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(sink.clone())
                .event_format(JournalText::new()),
        ),
        Format::Text => Box::new(
            tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(sink.clone()),
        ),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(InitError::AlreadySet)?;
    Ok(Logs { targets, sink })
}

impl Logs {
    /// Sets the level.
    pub fn set_level(&self, level: &Level) {
        // Fails only when the subscriber is gone.
        let _gone = self.targets.reload(level.targets.clone());
    }

    /// Returns the counter of the lines dropped because the reader of standard error was too slow.
    #[must_use]
    pub fn dropped_lines(&self) -> DroppedLines {
        DroppedLines(self.sink.clone())
    }
}

/// Counts the log lines that were dropped; clones share the count.
#[derive(Debug, Clone)]
pub struct DroppedLines(LineSink);

impl DroppedLines {
    /// Returns the number of dropped lines since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.dropped()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.sink.flush(FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as L;

    #[test]
    fn a_level_is_one_level_or_a_list_that_starts_with_one() {
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
    fn a_level_applies_to_own_targets_and_to_listed_libraries() {
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
