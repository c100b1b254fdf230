//! `[log]`: the level and the format of the log.

use serde::{Deserialize, Serialize};

use super::checker::Checker;

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, or a list such as `info,h2=warn`.
    pub level: String,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text.
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Log {
    pub(super) fn check(&self, checker: &mut Checker) {
        if let Err(err) = self.level.parse::<telemetry::Level>() {
            checker.problem("log.level", format!("\"{}\" {err}", self.level));
        }
    }

    /// The settings as `telemetry` takes them; `journal`: standard error is systemd's journal.
    ///
    /// # Errors
    /// When the level is invalid, which a loaded configuration rules out.
    pub fn settings(&self, journal: bool) -> Result<telemetry::LogSettings, telemetry::LevelError> {
        let format = match self.format {
            LogFormat::Json => telemetry::Format::Json,
            LogFormat::Text => telemetry::Format::Text,
        };
        Ok(telemetry::LogSettings {
            level: self.level.parse()?,
            format,
            journal,
        })
    }
}
