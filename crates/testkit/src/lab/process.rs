//! A long-running program of the lab, with its output in a file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::LabError;
use crate::wait;

/// The part of a log that an error has, in bytes.
const TAIL: usize = 4_000;

/// A program that runs until it is stopped; dropping the handle kills it.
#[derive(Debug)]
pub struct ManagedProcess {
    name: String,
    pid: i32,
    child: Mutex<Child>,
    log: PathBuf,
}

impl ManagedProcess {
    /// Starts a program in its own process group, with both outputs in `log` and `input` as its
    /// input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path, input: &[u8]) -> Result<Self, LabError> {
        let starting = || format!("start {name}");
        let output = File::create(log).map_err(LabError::io(starting()))?;
        let errors = output.try_clone().map_err(LabError::io(starting()))?;
        let mut child = command
            .stdin(if input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(LabError::io(starting()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that exited at once does not read; its exit status and log have the reason.
            let _ = stdin.write_all(input);
        }
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        Ok(Self {
            name: name.to_owned(),
            pid,
            child: Mutex::new(child),
            log: log.to_owned(),
        })
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns its output so far.
    #[must_use]
    pub fn logs(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for a line that contains `part` and returns the line.
    ///
    /// # Errors
    /// When there is none within `bound`, or the program exited without one.
    pub fn wait_for_log(&self, part: &str, bound: Duration) -> Result<String, LabError> {
        self.wait_for_line(&format!("a log line with {part:?}"), bound, |line| {
            line.contains(part)
        })
    }

    /// Waits for a line that `wanted` accepts and returns it; `what` describes it in the error.
    ///
    /// # Errors
    /// As [`Self::wait_for_log`].
    pub fn wait_for_line(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String, LabError> {
        self.wait_until(what, bound, || {
            self.logs().lines().find(|line| wanted(line)).map(str::to_owned)
        })
    }

    /// Waits for a state that this program brings about.
    ///
    /// # Errors
    /// When it is not reached within `bound`, or the program exited before.
    pub fn wait_until<T>(
        &self,
        what: &str,
        bound: Duration,
        mut probe: impl FnMut() -> Option<T>,
    ) -> Result<T, LabError> {
        let mut exited = None;
        let result = wait::until(what, bound, || {
            exited = self.exit();
            match (probe(), exited) {
                (Some(state), _) => Some(Some(state)),
                (None, Some(_)) => Some(None),
                (None, None) => None,
            }
        });
        match (result, exited) {
            (Ok(Some(state)), _) => Ok(state),
            (Ok(None), Some(status)) => Err(LabError::Exited {
                name: self.name.clone(),
                status,
                log: self.tail(),
            }),
            (Ok(None), None) => Err(LabError::NotRunning("the program")),
            (Err(timeout), _) => Err(LabError::NotReady {
                name: self.name.clone(),
                timeout,
                log: self.tail(),
            }),
        }
    }

    /// Returns its exit status, if it has exited.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits until it has exited.
    ///
    /// # Errors
    /// When it still runs after `bound`.
    pub fn wait_exit(&self, bound: Duration) -> Result<ExitStatus, LabError> {
        wait::until("its exit", bound, || self.exit()).map_err(|timeout| LabError::NotReady {
            name: self.name.clone(),
            timeout,
            log: self.tail(),
        })
    }

    /// Sends a signal; does nothing when the program has exited.
    pub fn signal(&self, signal: Signal) {
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            // Not reaped yet, so the pid still belongs to it.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it and waits until it has exited.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends SIGTERM and waits until it has exited; kills it after `bound` and returns `None` then.
    pub fn terminate(&self, bound: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let status = self.wait_exit(bound).ok();
        if status.is_none() {
            self.kill();
        }
        status
    }

    fn tail(&self) -> String {
        let logs = self.logs();
        let start = logs.len().saturating_sub(TAIL);
        let start = (start..logs.len())
            .find(|&at| logs.is_char_boundary(at))
            .unwrap_or(0);
        logs[start..].to_owned()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ManagedProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
