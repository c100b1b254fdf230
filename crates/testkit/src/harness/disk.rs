//! File systems for the agent's state that are small, full or frozen.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::lab::Lab;
use crate::wait::BOUND;

/// A file system of 4 MiB.
pub const SMALL: &[&str] = &["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"];

/// Moves this thread, and the agents that it starts from now on, to a mount namespace of their own,
/// and mounts a file system as the agent's state directory.
///
/// # Panics
/// When it cannot.
#[must_use]
pub fn mount_state_dir(lab: &Lab, arguments: &[&str]) -> Mounted {
    let state_dir = lab.agent().state_dir();
    // Before that it may have no state directory yet.
    check(
        "wait for the agent",
        lab.agent().wait_for_log("agent is ready", BOUND),
    );
    check("stop the agent", lab.agent().stop());
    check("unshare", unshare(CloneFlags::CLONE_NEWNS));
    run("mount", &["--make-rprivate", "/"]);
    check("remove the directory", fs::remove_dir_all(&state_dir));
    check("create the directory", fs::create_dir(&state_dir));
    run("mount", &[arguments, &[&text(&state_dir)]].concat());
    Mounted(state_dir)
}

/// Mounts an ext4 file system of 16 MiB, which [`Frozen`] can freeze, as [`mount_state_dir`].
///
/// # Panics
/// When it cannot.
#[must_use]
pub fn mount_ext4(lab: &Lab) -> Mounted {
    let image = lab.directory().join("disk");
    check(
        "create an image",
        File::create(&image).and_then(|file| file.set_len(16 << 20)),
    );
    let image = text(&image);
    run("mkfs.ext4", &["-q", "-F", &image]);
    mount_state_dir(lab, &["-o", "loop", &image])
}

/// Unmounts a file system, so that the lab can remove its directory.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Makes it read-only, for agents that start from now on.
    ///
    /// # Panics
    /// When it cannot.
    pub fn set_read_only(&self) {
        run("mount", &["-o", "remount,ro", &text(&self.0)]);
    }

    /// Makes it writable again, for the running agent of the lab, which has a mount namespace of
    /// its own, and for later ones.
    ///
    /// # Panics
    /// When it cannot.
    pub fn set_writable(&self, lab: &Lab) {
        let agent = check("find the agent", lab.agent().process()).pid().to_string();
        let path = text(&self.0);
        let remount = ["mount", "-o", "remount,rw", &path];
        run(
            "nsenter",
            &[&["--mount", "--target", &agent], &remount[..]].concat(),
        );
        run("mount", &remount[1..]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["--lazy", &text(&self.0)]);
    }
}

/// Fills the file system of `directory`.
///
/// # Panics
/// When it cannot create a file.
pub fn fill(directory: &Path) {
    let mut file = check("create a file", File::create(directory.join("filler")));
    while file.write_all(&[0; 4_096]).is_ok() {}
}

/// Undoes [`fill`].
///
/// # Panics
/// When it cannot.
pub fn free(directory: &Path) {
    check("remove a file", fs::remove_file(directory.join("filler")));
}

/// A file system on which every write hangs while this exists.
pub struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    /// Freezes the file system of `directory`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn new(directory: &'a Path) -> Self {
        run("fsfreeze", &["--freeze", &text(directory)]);
        Self(directory)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze", &text(self.0)]);
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let status = check(program, Command::new(program).args(arguments).status());
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

fn check<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("could not {what}: {error}"))
}
