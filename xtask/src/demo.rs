//! `cargo xtask demo`: builds, installs what is missing, and gives the stage to the lab's `demo` program.

use std::path::Path;

use crate::run::{self, cargo};
use crate::{setup, test};

/// Runs the demo; with `keep` it stays up until the reader ends it.
///
/// Where the lab cannot be set up (no root, no apt-get), the demo still runs: it finds that out itself and tells the
/// story as far as it can be told without.
pub fn run(root: &Path, keep: bool) -> anyhow::Result<()> {
    if let Err(error) = setup::run() {
        eprintln!("cargo xtask demo: {error:#}");
    }
    let bins = test::build_bins(root)?;
    let mut demo = cargo(root);
    demo.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "testkit",
        "--bin",
        "demo",
        "--",
    ]);
    if keep {
        demo.arg("--keep");
    }
    run::run(demo.env(test::BIN_DIR, bins))
}
