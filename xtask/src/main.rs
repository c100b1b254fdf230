//! `cargo xtask …`: see `cargo xtask --help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use xtask::{bench, check, codegen, demo, setup, test, tidy};

/// Development tasks of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, lints, rules of this repository, unit tests: the inner loop, before every commit.
    Check,
    /// Every test, those on real ocserv included. As root; installs what is missing.
    Test {
        /// What else `cargo test` is told, such as `-- login_is_denied`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// One allowed and one denied login on a real ocserv, end to end, as an account to read.
    Demo {
        /// Leaves everything up and says how to poke at it.
        #[arg(long)]
        keep: bool,
    },
    /// The figures, each beside a floor that is measured in the same run.
    Bench {
        /// What else the measuring program is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The helper as it is shipped: static and small. Prints where it is and its size.
    Helper,
    /// Installs what the tests and the demo need, with apt-get.
    Setup,
    /// The rules of this repository that the compiler cannot hold.
    Tidy,
    /// Generates the Rust of `crates/ocserv-agent-proto` from `proto/`.
    Codegen,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> anyhow::Result<()> {
    let root = root()?;
    match task {
        Task::Check => check::run(&root),
        Task::Test { arguments } => test::run(&root, &arguments),
        Task::Demo { keep } => demo::run(&root, keep),
        Task::Bench { arguments } => bench::run(&root, &arguments),
        Task::Helper => bench::helper(&root).map(drop),
        Task::Setup => setup::run(),
        Task::Tidy => tidy::run(&root),
        Task::Codegen => {
            for file in codegen::run(&root)? {
                println!("wrote {}", file.strip_prefix(&root).unwrap_or(&file).display());
            }
            Ok(())
        }
    }
}

/// The root of the workspace: the directory above this package's, as cargo says when it runs this program.
fn root() -> anyhow::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = PathBuf::from(package).parent().map(ToOwned::to_owned);
    root.context("the xtask package is not inside a workspace")
}
