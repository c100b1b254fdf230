//! `cargo xtask test`: every test there is, those on real ocserv included.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

use crate::run::{self, cargo};
use crate::setup;

/// Where the tests and the demo find the programs that they start.
pub const BIN_DIR: &str = "OCSERV_AGENT_BIN_DIR";

/// Installs what is missing, builds the programs, runs all tests. `arguments` go to `cargo test`.
pub fn run(root: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    ensure!(
        run::is_root(),
        "the tests start ocserv in network namespaces of their own, which only root may make: run `cargo xtask test` \
         as root (`cargo xtask check` runs the tests that need no root)"
    );
    setup::run()?;
    let bins = build_bins(root)?;
    run::run(test_command(root, &bins).args(arguments))
}

/// Builds the programs without optimisation and returns the directory that they are in.
pub fn build_bins(root: &Path) -> anyhow::Result<PathBuf> {
    run::run(
        cargo(root)
            .args(["build", "--locked", "--bins"])
            .args(package_arguments()),
    )?;
    Ok(run::target_dir()?.join("debug"))
}

/// The programs that are tested, as arguments for cargo.
fn package_arguments() -> impl Iterator<Item = &'static str> {
    ["ocserv-agent", "vpn-auth", "portal-dev"]
        .into_iter()
        .flat_map(|package| ["--package", package])
}

/// `cargo test` over all packages, going on after a failure so that one run shows all of them.
fn test_command(root: &Path, bins: &Path) -> Command {
    let mut command = cargo(root);
    command
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .env(BIN_DIR, bins);
    command
}
