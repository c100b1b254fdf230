//! Registers the labs on this machine, and removes what dead ones left.
//!
//! Each lab locks a file of its own; the kernel releases the lock when the test process ends in any
//! way. A namespace whose lab holds no lock is stale.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::LabError;
use super::netns::{self, DIRECTORY};
use crate::wait;

const LOCKS: &str = "/run/ocserv-agent-lab";
const PREFIX: &str = "oa";
/// Longest time until killed processes have exited.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The registered name of a lab. Dropping it releases the name.
#[derive(Debug)]
pub(crate) struct Registration {
    name: String,
    file: File,
}

impl Registration {
    /// Removes what dead labs left and registers a name that no other lab has.
    pub(crate) fn new() -> Result<Self, LabError> {
        let io = |what: &str| LabError::io(format!("{what} under {LOCKS}"));
        fs::create_dir_all(LOCKS).map_err(io("create the lock directory"))?;
        // One at a time: between creating and locking its file, a lab looks dead to others.
        let registry = File::create(registry_lock()).map_err(io("open the registry's lock"))?;
        registry.lock().map_err(io("take the registry's lock"))?;
        remove_stale();
        let name = format!(
            "{PREFIX}{}-{}",
            process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(lock_of(&name))
            .map_err(io("create a lock"))?;
        file.lock().map_err(io("take a lock"))?;
        Ok(Self { name, file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Records the directory that is deleted if this process ends without deleting it.
    pub(crate) fn set_directory(&mut self, directory: &Path) -> Result<(), LabError> {
        let text = directory.to_string_lossy();
        self.file
            .write_all(text.as_bytes())
            .map_err(LabError::io("record the lab's directory"))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = fs::remove_file(lock_of(&self.name));
    }
}

fn registry_lock() -> PathBuf {
    Path::new(LOCKS).join("registry")
}

fn lock_of(name: &str) -> PathBuf {
    Path::new(LOCKS).join(format!("{name}.lock"))
}

/// Removes processes, namespaces, directories and lock files of dead labs.
fn remove_stale() {
    for namespace in names_in(Path::new(DIRECTORY)) {
        if let Some(lab) = lab_of(&namespace)
            && !is_alive(lab)
        {
            clear(&[namespace]);
        }
    }
    for file in names_in(Path::new(LOCKS)) {
        if let Some(lab) = file.strip_suffix(".lock")
            && !is_alive(lab)
        {
            remove_directory_of(lab);
            let _ = fs::remove_file(lock_of(lab));
        }
    }
}

/// Kills all processes in the namespaces, waits until they have exited, deletes the namespaces.
pub(crate) fn clear(namespaces: &[String]) {
    let processes = || {
        namespaces
            .iter()
            .flat_map(|name| netns::processes(name))
            .collect::<Vec<_>>()
    };
    let _ = wait::until("the namespaces to be empty", KILL_TIMEOUT, || {
        let pids = processes();
        for &pid in &pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        pids.is_empty().then_some(())
    });
    for namespace in namespaces {
        netns::delete(namespace);
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Returns the lab's name in `oa<pid>-<n><node>`.
fn lab_of(namespace: &str) -> Option<&str> {
    let (pid, rest) = namespace.strip_prefix(PREFIX)?.split_once('-')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let is_lab = !pid.is_empty()
        && pid.bytes().all(|b| b.is_ascii_digit())
        && digits > 0
        && matches!(rest.as_bytes().get(digits), Some(b's' | b'p' | b'c'));
    is_lab.then(|| &namespace[..PREFIX.len() + pid.len() + 1 + digits])
}

fn is_alive(lab: &str) -> bool {
    match File::open(lock_of(lab)).map(|file| file.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
    }
}

/// Deletes the files of a dead lab, if their path is one of a lab.
fn remove_directory_of(lab: &str) {
    let mut text = String::new();
    let read = File::open(lock_of(lab)).and_then(|mut file| {
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)
    });
    let path = Path::new(&text);
    let is_lab = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(lab));
    if read.is_ok() && path.is_absolute() && is_lab {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::lab_of;

    #[test]
    fn only_names_of_labs_are_recognised() {
        for (name, lab) in [
            ("oa123-4s", Some("oa123-4")),
            ("oa123-4p", Some("oa123-4")),
            ("oa123-45c10", Some("oa123-45")),
            ("oa123-4", None),
            ("oa-4s", None),
            ("oax-4s", None),
            ("oa123-s", None),
            ("oatmeal", None),
            ("vpn", None),
        ] {
            assert_eq!(lab_of(name), lab, "{name}");
        }
    }
}
