//! What can keep a lab from standing.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::pki::PkiError;
use crate::wait::Late;

/// Why the lab could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The test does not run as root.
    #[error(
        "the lab needs root for network namespaces and tun devices: run the tests as root (`cargo xtask setup` says what else)"
    )]
    NotRoot,
    /// Something is not installed.
    #[error("the lab needs {0}, which this machine has not: run `cargo xtask setup`")]
    Missing(&'static str),
    /// A program of ours has not been built.
    #[error("{0} is not there: run `cargo xtask test`, or build the programs with `cargo build --bins`")]
    NotBuilt(PathBuf),
    /// A system call or a file operation failed.
    #[error("could not {what}")]
    Io {
        /// The attempt, as in "could not …".
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A short-lived program failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A program ended that was to go on.
    #[error("{name} ended with {status}; it said:\n{log}")]
    Ended {
        /// Its name in the lab.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A program is not running.
    #[error("{0} is not running")]
    NotRunning(&'static str),
    /// A state did not come.
    #[error("{late}; {name} said:\n{log}")]
    NotReady {
        /// Whose state.
        name: String,
        /// Which state.
        late: Late,
        /// The end of its log.
        log: String,
    },
    /// A state of the whole lab did not come.
    #[error(transparent)]
    Late(#[from] Late),
    /// A certificate could not be made.
    #[error("could not make the lab's certificates")]
    Pki(#[from] PkiError),
    /// The configuration that a test asked for is none.
    #[error("could not read the extra configuration of the agent: {0}")]
    Config(String),
}

impl LabError {
    /// Turns an I/O error into one that says what was attempted.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
