//! The problems of a configuration and their locations.

use std::fmt;
use std::path::PathBuf;

use ocserv_agent_model::escaped_line;

/// Every problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one; in the order of the file.
    pub problems: Vec<Problem>,
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value is set, or where it is missing.
    pub location: Location,
    /// The key with its sections (`portal.tls.ca`); empty when it is about the file as a whole.
    pub key: String,
    /// What is wrong; a fragment that fits after the key.
    pub what: String,
}

/// Where a value is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In the file; with the line, from 1, when the key is there.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
    },
    /// In an environment variable.
    Env(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Env(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys, values and paths may hold anything, also what forges a line.
        f.write_str(&escaped_line(&self.location.to_string()))?;
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", escaped_line(&self.key))?;
        }
        f.write_str(&escaped_line(&self.what))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
