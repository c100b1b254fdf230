//! A Debian server with systemd as its first process, booted in a container.
//!
//! The system is the directory that `OCSERV_AGENT_BOOTED_ROOT` names, which `cargo xtask test
//! --booted` makes. It is not changed: a server writes to memory. It has no network but its own
//! loopback.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab::LabError;
use crate::wait::until;

/// Longest boot and longest power-off: both take about ten seconds.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest command in a server, in seconds.
const COMMAND_TIMEOUT: &str = "60";

/// A booted server; dropping it ends all its processes.
#[derive(Debug)]
pub struct BootedServer {
    nspawn: Child,
    /// Its first process, as this machine counts.
    leader: Option<Pid>,
    directory: TempDir,
}

impl BootedServer {
    /// Boots a server that can read `shared` at the same paths, and waits until it is up.
    ///
    /// # Errors
    /// When there is no system, or it does not boot; with the server's console.
    pub fn boot(shared: &[&Path]) -> Result<Self, LabError> {
        let missing = LabError::Missing("a system to boot, which `cargo xtask test --booted` makes");
        let root = env::var_os("OCSERV_AGENT_BOOTED_ROOT").ok_or(missing)?;
        let failed = || LabError::io("start systemd-nspawn");
        let directory = TempDir::new().map_err(failed())?;
        let console = File::create(directory.path().join("console")).map_err(failed())?;
        let mut command = Command::new("systemd-nspawn");
        command
            .args([
                "--quiet",
                "--boot",
                "--volatile=overlay",
                "--register=no",
                "--keep-unit",
            ])
            .args([
                "--private-network",
                "--capability=CAP_NET_ADMIN",
                "--console=pipe",
            ])
            .arg("--directory")
            .arg(PathBuf::from(root));
        for path in shared {
            command.arg(format!("--bind-ro={}", path.display()));
        }
        let nspawn = command
            .stdin(Stdio::null())
            .stdout(console.try_clone().map_err(failed())?)
            .stderr(console)
            .spawn()
            .map_err(failed())?;
        let mut server = Self {
            nspawn,
            leader: None,
            directory,
        };
        server.wait_booted()?;
        Ok(server)
    }

    fn wait_booted(&mut self) -> Result<(), LabError> {
        let booted = until("booted server", BOOT_TIMEOUT, || {
            self.leader = child_of(self.nspawn.id());
            let output = self.exec("systemctl is-system-running").ok()?;
            let state = String::from_utf8_lossy(&output.stdout).into_owned();
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
        booted.map_err(|timeout| LabError::NotReady {
            name: "the booted server".to_owned(),
            timeout,
            log: fs::read_to_string(self.directory.path().join("console")).unwrap_or_default(),
        })
    }

    /// Runs a shell script in the server, as root.
    ///
    /// # Errors
    /// When the server is not up, or the script cannot be started.
    pub fn exec(&self, script: &str) -> Result<Output, LabError> {
        let leader = self.leader.ok_or(LabError::NotRunning("the booted server"))?;
        Command::new("timeout")
            .args([
                COMMAND_TIMEOUT,
                "nsenter",
                "--all",
                "--target",
                &leader.to_string(),
            ])
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .map_err(LabError::io("run a command in the booted server"))
    }

    /// Runs a shell script in the server and returns its output.
    ///
    /// # Errors
    /// As [`Self::exec`], and when the script fails.
    pub fn run(&self, script: &str) -> Result<String, LabError> {
        let output = self.exec(script)?;
        let is_success = output.status.success();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if is_success {
            return Ok(text);
        }
        Err(LabError::Command {
            command: script.to_owned(),
            output: text,
        })
    }

    /// Returns the messages in the journal that `arguments` of `journalctl` select.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn journal(&self, arguments: &str) -> Result<String, LabError> {
        self.run(&format!(
            "journalctl --sync; journalctl --quiet --output=cat {arguments}"
        ))
    }

    /// Returns a property of a unit, as in `systemctl show`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn property(&self, unit: &str, name: &str) -> Result<String, LabError> {
        let text = self.run(&format!("systemctl show --value --property={name} {unit}"))?;
        Ok(text.trim().to_owned())
    }

    /// Returns the id that a process of the server has on this machine.
    #[must_use]
    pub fn pid_on_this_machine(&self, pid: &str) -> Option<Pid> {
        let inside = fs::read_link(format!("/proc/{}/ns/pid", self.leader?)).ok()?;
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|process: &i32| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let is_inside = fs::read_link(format!("/proc/{process}/ns/pid")).is_ok_and(|ns| ns == inside);
            is_inside && ids.and_then(|ids| ids.split_whitespace().last()) == Some(pid)
        })
        .map(Pid::from_raw)
    }

    /// Powers the server off, as its operator does.
    ///
    /// # Errors
    /// When it is not off in time.
    pub fn power_off(mut self) -> Result<(), LabError> {
        self.run("systemctl poweroff --no-block")?;
        until("powered-off server", BOOT_TIMEOUT, || {
            self.nspawn.try_wait().ok()?
        })?;
        Ok(())
    }
}

impl Drop for BootedServer {
    fn drop(&mut self) {
        if matches!(self.nspawn.try_wait(), Ok(Some(_))) {
            return;
        }
        // The end of the first process ends all others, and then systemd-nspawn cleans up.
        let leader = self.leader.or_else(|| child_of(self.nspawn.id()));
        let killed = leader.map(|leader| kill(leader, Signal::SIGKILL));
        if !matches!(killed, Some(Ok(()))) {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
    }
}

/// Returns the child of a process.
fn child_of(pid: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    child.parse().ok().map(Pid::from_raw)
}
