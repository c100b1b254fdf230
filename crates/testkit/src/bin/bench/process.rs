//! What the kernel says about a running program.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::report::Failure;

/// How long a program must use no processor to count as settled.
const QUIET: Duration = Duration::from_millis(300);
/// How long it may take to settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// What a tick of `/proc/<pid>/stat` is on every architecture that Linux has today.
const TICK: Duration = Duration::from_millis(10);

/// A command that runs `program` and ends with this one, however this one ends.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A program by its pid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program(pub(crate) i32);

/// Memory, in kibibytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// What is resident now.
    pub(crate) rss: u64,
    /// The most that was resident since the start or the last [`Program::forget_peak`].
    pub(crate) peak: u64,
    /// What is resident, shared pages divided among those who share them.
    pub(crate) pss: u64,
}

impl Program {
    pub(crate) fn memory(self) -> Result<Memory, Failure> {
        let status = self.read("status")?;
        let rollup = self.read("smaps_rollup")?;
        Ok(Memory {
            rss: field(&status, "VmRSS:")?,
            peak: field(&status, "VmHWM:")?,
            pss: field(&rollup, "Pss:")?,
        })
    }

    /// Lets the peak begin anew from what is resident now.
    pub(crate) fn forget_peak(self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    /// The processor time that it has used, on all its threads.
    pub(crate) fn processor_time(self) -> Result<Duration, Failure> {
        let stat = self.read("stat")?;
        // The name in the second field may hold anything, but ends with the last parenthesis.
        let rest = stat.rsplit_once(')').ok_or("no name in /proc/<pid>/stat")?.1;
        let ticks = |index| {
            rest.split_whitespace()
                .nth(index)
                .and_then(|text| text.parse().ok())
        };
        let (user, system): (u32, u32) = ticks(11).zip(ticks(12)).ok_or("no times in /proc/<pid>/stat")?;
        Ok(TICK * (user + system))
    }

    /// Waits until it has nothing to do.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let end = Instant::now() + SETTLED_WITHIN;
        let mut last = self.processor_time()?;
        while Instant::now() < end {
            thread::sleep(QUIET);
            let now = self.processor_time()?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
        Err(format!("process {} did not settle within {SETTLED_WITHIN:?}", self.0).into())
    }

    fn read(self, file: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.0))?)
    }
}

fn field(text: &str, name: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("the kernel does not say {name}").into())
}

/// Kibibytes as megabytes (10^6).
pub(crate) fn megabytes(kibibytes: u64) -> f64 {
    kibibytes as f64 * 1024.0 / 1e6
}
