//! Start, reload and stop of the one process.
//!
//! `build` takes everything that can fail to be taken (identities, ports, the socket, the signals) before anything is
//! served; `run` serves until a signal says stop, and then stops in order: not ready, gRPC, IPC, events, portal.

mod build;
mod drain;
mod notify;
mod pages;
mod reload;
mod serve;
mod signals;
mod start;

use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};

use crate::clock;
use crate::config::{self, Config, ConfigError};
use crate::ipc_server::{self, BindError};

pub use build::{Agent, StartError};

/// Threads for what blocks, for each of the two runtimes: name look-ups and reads of small files.
const BLOCKING: usize = 4;

/// Where the configuration comes from: it is read again on SIGHUP.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub path: PathBuf,
    /// The environment of the process, names and values; what does not begin with [`config::ENV_PREFIX`] is ignored.
    pub environment: Vec<(String, String)>,
}

impl ConfigSource {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(&self.path, self.environment.iter().cloned())
    }
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everybody was answered and everything was put away.
    Drained,
    /// A second signal came, or the time for it ran out, before everything was done.
    CutShort,
    /// A part of it failed for good; the rest was drained.
    Failed,
}

/// Runs the agent to its end: takes the socket that systemd passed, if any, starts the log and the runtime, builds and
/// serves. Has to be called before any thread is started.
///
/// # Errors
/// When it could not start; nothing was served.
pub fn run(config: Config, source: ConfigSource) -> Result<Outcome, StartError> {
    let inherited = ipc_server::inherited()?;
    allow_many_files();
    let logs = telemetry::init(&config.log.settings()?, clock::wall)?;
    // Two threads: this one is for logins alone. Nothing else delays them, and none of their steps has to wake another
    // thread. See docs/decisions/0010-a-thread-for-logins.md.
    let logins = runtime(&mut Builder::new_current_thread())?;
    let background = runtime(
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background"),
    )?;
    let aside = background.handle().clone();
    let outcome = logins.block_on(async {
        match Agent::build(config, source, inherited, aside).await {
            Ok(agent) => Ok(agent.run(Some(&logs)).await),
            Err(error) => Err(error),
        }
    });
    // What still blocks by then (a name look-up) is left behind.
    logins.shutdown_background();
    background.shutdown_background();
    outcome
}

fn runtime(builder: &mut Builder) -> Result<Runtime, StartError> {
    builder
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
        .map_err(StartError::Runtime)
}

/// Raises the soft limit of open files to the hard one: each login under way holds one, and the usual soft limit of
/// 1,024 is that of programs which use select(2).
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised it stays as it is, and accepting pauses when it is reached.
    let _unraised = setrlimit(Resource::Nofile, limit);
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Ipc(error)
    }
}
