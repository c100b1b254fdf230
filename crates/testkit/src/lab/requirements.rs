//! What the lab needs of the machine.

use std::env;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::LabError;

/// Programs, each with its Debian package.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "the program `ip` (package iproute2)"),
    ("iptables", "the program `iptables` (package iptables)"),
    ("ocserv", "the program `ocserv` (package ocserv)"),
    ("occtl", "the program `occtl` (package ocserv)"),
    ("ocpasswd", "the program `ocpasswd` (package ocserv)"),
    ("openconnect", "the program `openconnect` (package openconnect)"),
];

/// Checks all requirements of the lab.
///
/// # Errors
/// Names the first missing requirement and the command that installs it.
pub fn check() -> Result<(), LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    for (name, what) in PROGRAMS {
        program(name).ok_or(LabError::Missing(what))?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|_| LabError::Missing("tun devices (/dev/net/tun)"))?;
    Ok(())
}

/// A release of ocserv, such as `OcservVersion(1, 4, 2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OcservVersion(pub u32, pub u32, pub u32);

/// Returns the version of the installed ocserv.
///
/// # Errors
/// When it is not installed or prints no version.
pub fn ocserv_version() -> Result<OcservVersion, LabError> {
    let output = Command::new(required("ocserv")?)
        .arg("--version")
        .output()
        .map_err(LabError::io("run ocserv"))?;
    // Some releases print it to standard error.
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let found = text.split_whitespace().find_map(version);
    found.ok_or(LabError::Command {
        command: "ocserv --version".to_owned(),
        output: text,
    })
}

fn version(word: &str) -> Option<OcservVersion> {
    let mut numbers = word.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(OcservVersion(next()?, next()?, next()?))
}

/// Finds a program in the path or in the sbin directories.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Finds a program, or fails with its name.
pub(crate) fn required(name: &'static str) -> Result<PathBuf, LabError> {
    program(name).ok_or(LabError::Missing(name))
}

/// Finds a program of this workspace: in `OCSERV_AGENT_BIN_DIR`, or beside this test.
///
/// # Errors
/// When it has not been built.
pub fn own_program(name: &str) -> Result<PathBuf, LabError> {
    let path = match env::var_os("OCSERV_AGENT_BIN_DIR") {
        Some(directory) => PathBuf::from(directory).join(name),
        None => beside_this_test()?.join(name),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(LabError::NotBuilt(path))
    }
}

/// Returns the directory of the profile, which has test programs in its `deps`.
fn beside_this_test() -> Result<PathBuf, LabError> {
    let this = env::current_exe().map_err(LabError::io("find this program"))?;
    let directory = this.parent().unwrap_or(Path::new("/"));
    let profile = match directory.file_name() {
        Some(name) if name == "deps" || name == "examples" => directory.parent().unwrap_or(directory),
        _ => directory,
    };
    Ok(profile.to_owned())
}
