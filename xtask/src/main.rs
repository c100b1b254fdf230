//! `cargo xtask …`: see `cargo xtask --help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use xtask::{bench, check, codegen, demo, fuzz, setup, test, tidy};

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
        /// The release of ocserv to test with, or all of them one after the other. 1.1.6 is the
        /// package of Debian 12, which must be installed on this machine, 1.3.0 that of Debian 13
        /// and 1.5.0 that of unstable. Without this option: the ocserv of this machine, whichever
        /// it is.
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(test::release_names()))]
        ocserv: Option<String>,
        /// Only the tests named in xtask/src/test/smoke.rs: login, deny, list, disconnect,
        /// revocation, restart.
        #[arg(long)]
        smoke: bool,
        /// Only the tests on a Debian system that is booted with systemd as its first process, in a
        /// container: the units in deploy/systemd. No other run has these tests.
        #[arg(long, conflicts_with_all = ["ocserv", "smoke", "programs"])]
        booted: bool,
        /// Only this test program, such as `login`; may be repeated.
        #[arg(long = "test", value_name = "PROGRAM")]
        programs: Vec<String>,
        /// Arguments of the test programs, such as a part of a test's name.
        #[arg(last = true, conflicts_with = "smoke")]
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
    /// Searches for bytes from outside (frames, files, replies, answers) that break a promise.
    Fuzz {
        /// Minutes for each target.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        /// Only gives each target its committed corpus, as CI does.
        #[arg(long, conflicts_with = "minutes")]
        replay: bool,
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
        Task::Test {
            ocserv,
            smoke,
            booted,
            programs,
            arguments,
        } => test::run(
            &root,
            &test::Options {
                ocserv,
                smoke,
                booted,
                programs,
                arguments,
            },
        ),
        Task::Demo { keep } => demo::run(&root, keep),
        Task::Bench { arguments } => bench::run(&root, &arguments),
        Task::Fuzz { replay: true, .. } => fuzz::replay(&root),
        Task::Fuzz { minutes, .. } => fuzz::run(&root, minutes * 60),
        Task::Helper => bench::helper(&root).map(drop),
        Task::Setup => setup::lab().and_then(|()| setup::debian_roots()),
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
