//! Where the configuration comes from.

use std::path::PathBuf;

use crate::config::{self, Config, ConfigError};

/// The sources of the configuration, which SIGHUP reads again.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// The environment of the process, names and values; names without [`config::ENV_PREFIX`] are
    /// ignored.
    pub environment: Vec<(String, String)>,
}

impl ConfigSource {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Every problem that it has.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(&self.path, self.environment.iter().cloned())
    }

    /// Checks the configuration for the operator; returns the text of `--check-config`.
    ///
    /// # Errors
    /// Every problem that it has; expired certificates too, with which the agent starts.
    pub fn check(&self) -> Result<String, ConfigError> {
        config::check_file(&self.path, self.environment.iter().cloned())
    }
}
