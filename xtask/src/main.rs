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
    /// Checks formatting, repository rules, lints and unit tests. Run it before every commit.
    Check,
    /// Runs every test, including those on a real ocserv. Needs root; installs missing packages.
    Test {
        /// Further arguments of `cargo test`, such as `-- login_is_denied`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Shows one allowed and one denied login on a real ocserv, end to end.
    Demo {
        /// Keeps the programs running and prints how to inspect them.
        #[arg(long)]
        keep: bool,
    },
    /// Measures performance, each figure beside a baseline of the same run.
    Bench {
        /// Further arguments of the measuring program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Builds the helper as it is shipped, static and small. Prints its path and size.
    Helper,
    /// Installs the packages that the tests and the demo need, with apt-get.
    Setup,
    /// Checks rules of this repository that the compiler cannot check.
    Tidy,
    /// Generates the Rust of `crates/ocserv-agent-proto` from `proto/`.
    Codegen,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
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

/// Returns the root of the workspace: the parent of this package's directory, which cargo sets when
/// it runs this program.
fn root() -> anyhow::Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = PathBuf::from(package).parent().map(ToOwned::to_owned);
    root.context("the xtask package is not inside a workspace")
}
