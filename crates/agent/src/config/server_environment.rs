//! `environment`: what a server is used for.

use resilience::FailMode;
use serde::{Deserialize, Serialize};

/// What a server is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Users depend on it.
    #[default]
    Production,
    /// It is set up as production is, to try changes.
    Staging,
    /// Developers use it.
    Development,
    /// Automatic tests use it.
    Test,
}

impl Environment {
    /// Returns the name in the configuration and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
            Self::Development => "development",
            Self::Test => "test",
        }
    }

    /// Returns the recommended `resilience.fail_mode`.
    #[must_use]
    pub const fn recommended_fail_mode(self) -> FailMode {
        match self {
            Self::Production | Self::Staging => FailMode::Stale,
            Self::Development | Self::Test => FailMode::Open,
        }
    }
}
