//! What the machine must have.

use std::env;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::LabError;

/// Programs and the Debian package that brings each.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "the program `ip` (package iproute2)"),
    ("iptables", "the program `iptables` (package iptables)"),
    ("ocserv", "the program `ocserv` (package ocserv)"),
    ("occtl", "the program `occtl` (package ocserv)"),
    ("ocpasswd", "the program `ocpasswd` (package ocserv)"),
    ("openconnect", "the program `openconnect` (package openconnect)"),
];

/// Checks for everything that the lab needs.
///
/// # Errors
/// One sentence that names the first thing that is missing and the command that mends it.
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

/// Finds a program as a shell of root does, also where the path lacks the sbin directories.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Finds a program that the lab needs.
pub(crate) fn required(name: &'static str) -> Result<PathBuf, LabError> {
    program(name).ok_or(LabError::Missing(name))
}

/// Finds a program of this workspace: in `OCSERV_AGENT_BIN_DIR`, or where cargo put it beside this test.
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

/// The directory of the profile: test programs lie in its `deps`, the others in itself.
fn beside_this_test() -> Result<PathBuf, LabError> {
    let this = env::current_exe().map_err(LabError::io("find this program"))?;
    let directory = this.parent().unwrap_or(Path::new("/"));
    let profile = match directory.file_name() {
        Some(name) if name == "deps" || name == "examples" => directory.parent().unwrap_or(directory),
        _ => directory,
    };
    Ok(profile.to_owned())
}
