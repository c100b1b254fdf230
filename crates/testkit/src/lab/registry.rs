//! Which labs are alive on this machine, and the sweeping up after those that are not.
//!
//! Each lab holds a lock on a file of its own, which the kernel releases when the test process dies in whatever way. A
//! namespace whose lab holds no lock belongs to nobody.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LabError;
use super::netns::{DIRECTORY, delete, processes};
use crate::wait;

const LOCKS: &str = "/run/ocserv-agent-lab";
const PREFIX: &str = "oa";
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The lab's claim to its name. Dropping it gives the name up.
#[derive(Debug)]
pub(crate) struct Claim {
    name: String,
    file: File,
}

impl Claim {
    /// Sweeps up after dead labs and takes a name that no other lab has.
    pub(crate) fn take() -> Result<Self, LabError> {
        let io = |what: &str| LabError::io(format!("{what} under {LOCKS}"));
        fs::create_dir_all(LOCKS).map_err(io("make the lock directory"))?;
        // One at a time: between a lab's file and its lock, a sweep of another process would take it for a dead one.
        let gate = File::create(gate()).map_err(io("open the gate"))?;
        gate.lock().map_err(io("pass the gate"))?;
        sweep();
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
            .map_err(io("make a lock"))?;
        file.lock().map_err(io("take a lock"))?;
        Ok(Self { name, file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Notes the directory to delete if this process dies before it can.
    pub(crate) fn note_directory(&mut self, directory: &Path) -> Result<(), LabError> {
        let text = directory.to_string_lossy();
        self.file
            .write_all(text.as_bytes())
            .map_err(LabError::io("note the lab's directory"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(lock_of(&self.name));
    }
}

fn gate() -> PathBuf {
    Path::new(LOCKS).join("gate")
}

fn lock_of(name: &str) -> PathBuf {
    Path::new(LOCKS).join(format!("{name}.lock"))
}

/// Removes what dead labs left: processes, namespaces, directories, lock files.
fn sweep() {
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

/// Kills all that lives in the namespaces, waits until it is gone, deletes them.
pub(crate) fn clear(namespaces: &[String]) {
    let living = || {
        namespaces
            .iter()
            .flat_map(|name| processes(name))
            .collect::<Vec<_>>()
    };
    let _ = wait::until("the namespaces to be empty", GONE, || {
        let living = living();
        for &pid in &living {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        living.is_empty().then_some(())
    });
    for namespace in namespaces {
        delete(namespace);
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The lab's name in `oa<pid>-<n><place>`.
fn lab_of(namespace: &str) -> Option<&str> {
    let (pid, rest) = namespace.strip_prefix(PREFIX)?.split_once('-')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ours = !pid.is_empty()
        && pid.bytes().all(|b| b.is_ascii_digit())
        && digits > 0
        && matches!(rest.as_bytes().get(digits), Some(b's' | b'p' | b'c'));
    ours.then(|| &namespace[..PREFIX.len() + pid.len() + 1 + digits])
}

fn is_alive(lab: &str) -> bool {
    match File::open(lock_of(lab)).map(|file| file.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
    }
}

/// Deletes the files of a lab that died, if they are where labs keep them.
fn remove_directory_of(lab: &str) {
    let mut text = String::new();
    let read = File::open(lock_of(lab)).and_then(|mut file| {
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)
    });
    let path = Path::new(&text);
    let ours = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(lab));
    if read.is_ok() && path.is_absolute() && ours {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::lab_of;

    #[test]
    fn only_names_that_a_lab_makes_are_taken_for_its_own() {
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
