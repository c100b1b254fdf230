//! Errors of the lab.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::pki::PkiError;
use crate::wait::WaitTimeout;

/// Why an operation of the lab failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The test does not run as root.
    #[error(
        "the lab needs root for network namespaces and tun devices: run the tests as root (`cargo xtask setup` installs what else it needs)"
    )]
    NotRoot,
    /// Something is not installed.
    #[error("the lab needs {0}, which is missing: run `cargo xtask setup`")]
    Missing(&'static str),
    /// A program of this workspace has not been built.
    #[error("{0} is not there: run `cargo xtask test`, or build the programs with `cargo build --bins`")]
    NotBuilt(PathBuf),
    /// A system call or a file operation failed.
    #[error("could not {what}")]
    Io {
        /// The operation, as in "could not …".
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A short-lived program failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its output.
        output: String,
    },
    /// A program exited unexpectedly.
    #[error("{name} exited with {status}; its log:\n{log}")]
    Exited {
        /// Its name in the lab.
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A program is not running.
    #[error("{0} is not running")]
    NotRunning(&'static str),
    /// A program did not reach a state in time.
    #[error("{timeout}; log of {name}:\n{log}")]
    NotReady {
        /// Its name in the lab.
        name: String,
        /// The state.
        timeout: WaitTimeout,
        /// The end of its log.
        log: String,
    },
    /// The lab did not reach a state in time.
    #[error(transparent)]
    Timeout(#[from] WaitTimeout),
    /// A certificate could not be made.
    #[error("could not make the lab's certificates")]
    Pki(#[from] PkiError),
    /// A configuration of a test is not valid.
    #[error("could not read the extra configuration of the agent: {0}")]
    Config(String),
}

impl LabError {
    /// Returns a function that adds the operation to an I/O error.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
