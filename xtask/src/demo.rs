//! `cargo xtask demo`: installs what is missing, builds, and runs the program `demo` of the lab.

use std::path::Path;

use crate::run::{self, cargo};
use crate::{setup, test};

/// Runs the demo; `keep` keeps its programs running until the user presses Enter.
///
/// The demo also runs where the lab cannot (no root, no apt-get): it replays recorded input of
/// ocserv then.
pub fn run(root: &Path, keep: bool) -> anyhow::Result<()> {
    if let Err(error) = setup::lab() {
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
