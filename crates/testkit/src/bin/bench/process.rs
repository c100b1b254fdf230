//! Memory and processor time of a running process.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::report::Failure;

/// The interval in which an idle process uses no more than [`IDLE_TIME`].
const IDLE_INTERVAL: Duration = Duration::from_millis(300);
/// Longest wait until a process is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Most processor time of an idle process in [`IDLE_INTERVAL`]: its timers use less.
const IDLE_TIME: Duration = Duration::from_millis(2);

/// Returns a command that runs `program` and is killed when this process ends in any way.
pub(crate) fn killed_with_parent(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A process by its pid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) i32);

/// Memory, in kibibytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident memory.
    pub(crate) rss: u64,
    /// Highest resident memory since the start or the last [`Process::reset_peak`].
    pub(crate) peak: u64,
    /// Resident memory with each shared page divided among the processes that share it.
    pub(crate) pss: u64,
}

impl Process {
    pub(crate) fn memory(self) -> Result<Memory, Failure> {
        let status = self.read("status")?;
        let rollup = self.read("smaps_rollup")?;
        Ok(Memory {
            rss: field(&status, "VmRSS:")?,
            peak: field(&status, "VmHWM:")?,
            pss: field(&rollup, "Pss:")?,
        })
    }

    /// Resets the peak to the memory that is resident now.
    pub(crate) fn reset_peak(self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    /// Returns the processor time of all its threads, including those that have ended.
    pub(crate) fn processor_time(self) -> Result<Duration, Failure> {
        // In nanoseconds; the times in /proc/<pid>/stat are in ticks of 10 ms.
        let clock = clock_getcpuclockid(Pid::from_raw(self.0))?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Waits until it is idle.
    pub(crate) fn wait_idle(self) -> Result<(), Failure> {
        let end = Instant::now() + IDLE_TIMEOUT;
        let mut last = self.processor_time()?;
        while Instant::now() < end {
            thread::sleep(IDLE_INTERVAL);
            let now = self.processor_time()?;
            if now.saturating_sub(last) < IDLE_TIME {
                return Ok(());
            }
            last = now;
        }
        Err(format!("process {} was not idle within {IDLE_TIMEOUT:?}", self.0).into())
    }

    fn read(self, file: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.0))?)
    }
}

fn field(text: &str, name: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no {name} in /proc").into())
}

/// Converts kibibytes to megabytes (10^6 bytes).
pub(crate) fn megabytes(kibibytes: u64) -> f64 {
    kibibytes as f64 * 1024.0 / 1e6
}
