//! The table of contents of the process: build, start, reload, shut down.
//!
//! `build` acquires what can fail to be acquired (identities, ports, the socket, signals) before
//! anything is served; `start` starts every part; `run` serves until a signal, then shuts down in
//! order. Only this module reads the configuration; every part gets its own small settings.

mod announce;
mod await_config;
mod build;
mod config_source;
mod control;
mod live_config;
mod observe;
mod pipeline;
mod reload;
mod run;
mod session_jobs;
mod shutdown;
mod signals;
mod start;
mod state_lock;
mod status;
mod systemd;
mod watchdog;

use tokio::runtime::{Builder, Runtime};

use crate::clock;
use crate::ipc::IpcListener;
use build::Agent;

pub use build::StartError;
pub use config_source::ConfigSource;
pub use run::ExitReason;
pub use systemd::Supervision;

/// Threads for blocking work (name lookups, small files), for each of the two runtimes.
const BLOCKING_THREADS: usize = 4;

/// Runs the agent to its end: takes over systemd's socket, if any, starts the log and the runtimes,
/// builds, serves, shuts down. Must be called before any thread is started. Where systemd expects
/// notifications, an invalid configuration does not end the process: it waits for a valid one.
///
/// # Errors
/// When it could not start; nothing was served.
pub fn run(source: ConfigSource, supervision: Supervision) -> Result<ExitReason, StartError> {
    let inherited = IpcListener::inherited()?;
    let config = match source.load() {
        Ok(config) => config,
        Err(error) if supervision.notify => {
            await_config::await_config(error, &source, inherited.as_ref(), supervision)
        }
        Err(error) => return Err(StartError::Config(error)),
    };
    raise_file_limit();
    let logs = telemetry::init(&config.log.settings(supervision.journal)?, clock::wall)?;
    // This thread serves logins alone; see docs/decisions/0010-login-thread.md.
    let logins = runtime(&mut Builder::new_current_thread())?;
    let background = runtime(
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background"),
    )?;
    let handle = background.handle().clone();
    let reason = logins.block_on(async {
        match Agent::build(config, source, inherited, handle).await {
            Ok(agent) => Ok(agent.run(Some(&logs)).await),
            Err(error) => Err(error),
        }
    });
    // Blocking work that is still running, such as a name lookup, is abandoned.
    logins.shutdown_background();
    background.shutdown_background();
    reason
}

fn runtime(builder: &mut Builder) -> Result<Runtime, StartError> {
    builder
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(StartError::Runtime)
}

/// Raises the soft limit of open files to the hard one: each login in progress holds one, and the
/// usual soft limit of 1,024 is meant for programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where this fails, accepting pauses at the lower limit.
    let _unchanged = setrlimit(Resource::Nofile, limit);
}
