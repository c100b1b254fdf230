//! `cargo xtask test`: the tests, on this machine's ocserv and on the releases of other Debian
//! suites.

mod debian_root;
mod programs;
mod release;
mod report;
mod smoke;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::ensure;

use crate::run::{self, cargo};
use crate::setup;
use debian_root::DebianRoot;
use release::Release;
use report::{Report, Tally};

pub use release::names as release_names;

/// Tests that need what a Debian root has not, and to which ocserv's release does not matter: loop
/// devices, and python3-grpcio.
const NOT_IN_A_ROOT: [&str; 3] = [
    "a_disk_that_hangs_delays_no_login_and_no_disconnect",
    "idle_connections_send_nothing_that_a_server_closes_them_for",
    "each_status_of_the_server_decides_as_documented",
];

/// Where the tests and the demo find the programs that they start.
pub const BIN_DIR: &str = "OCSERV_AGENT_BIN_DIR";

/// Where the tests of a booted system find it.
const BOOTED_ROOT: &str = "OCSERV_AGENT_BOOTED_ROOT";

/// What to test, and on what.
#[derive(Debug)]
pub struct Options {
    /// One of [`release_names`]; `None` takes the ocserv that this machine has, whichever it is.
    pub ocserv: Option<String>,
    /// Whether only the smoke tests run.
    pub smoke: bool,
    /// The test programs that run, such as `login`; none means all.
    pub programs: Vec<String>,
    /// Whether only the tests on a booted system run, which the others leave out.
    pub booted: bool,
    /// Arguments of the test programs, such as a part of a test's name.
    pub arguments: Vec<OsString>,
}

/// Installs what is missing, builds the programs, and runs the tests on each selected release.
///
/// On this machine's ocserv that is every test of the workspace; on another release, the tests of
/// the lab.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    ensure!(
        run::is_root(),
        "the tests start ocserv in network namespaces of their own, which only root may make: run `cargo xtask test` \
         as root (`cargo xtask check` runs the tests that need no root)"
    );
    if options.booted {
        return booted(root, &options.arguments);
    }
    setup::lab()?;
    let releases = release::selected(options.ocserv.as_deref());
    if releases.iter().any(|release| release.suite.is_some()) {
        setup::debian_roots()?;
    }
    let runner = Runner {
        root,
        bins: build_bins(root)?,
        lab: programs::build(root, &options.programs)?,
        options,
    };
    let reports = releases.iter().map(|release| runner.report(release));
    report::conclude(&reports.collect::<Vec<_>>())
}

/// Runs the tests on a system that is booted with systemd.
fn booted(root: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    setup::debian_roots()?;
    let system = DebianRoot::that_boots()?;
    let mut command = cargo(root);
    command
        .args(["test", "--locked", "--package", "testkit", "--test", "booted"])
        .args(["--", "--ignored"])
        .args(arguments)
        .env(BIN_DIR, build_bins(root)?)
        .env(BOOTED_ROOT, system.path());
    run::run(&mut command)
}

/// Builds the programs without optimisation and returns the directory that they are in.
pub fn build_bins(root: &Path) -> anyhow::Result<PathBuf> {
    let mut build = cargo(root);
    build.args(["build", "--locked", "--bins"]);
    for package in ["ocserv-agent", "vpn-auth", "portal-dev"] {
        build.args(["--package", package]);
    }
    run::run(&mut build)?;
    Ok(run::target_dir()?.join("debug"))
}

/// Runs the tests of one checkout.
struct Runner<'a> {
    root: &'a Path,
    /// The directory of the programs that the tests start.
    bins: PathBuf,
    /// The test programs of the lab.
    lab: Vec<PathBuf>,
    options: &'a Options,
}

impl Runner<'_> {
    fn report(&self, release: &Release) -> Report {
        let start = Instant::now();
        let mut tally = Tally::default();
        let result = match release.suite {
            None => self.on_this_machine(release, &mut tally),
            Some(suite) => self.in_debian(suite, release, &mut tally),
        };
        if let Err(error) = &result {
            eprintln!("-- {release}: {error:#}");
        }
        Report {
            name: release.to_string(),
            tally,
            passed: result.is_ok(),
            duration: start.elapsed(),
        }
    }

    fn on_this_machine(&self, release: &Release, tally: &mut Tally) -> anyhow::Result<()> {
        let found = release::installed()?;
        eprintln!("-- ocserv {found}, of this machine");
        ensure!(
            release.version.is_none_or(|version| version == found),
            "this machine has ocserv {found}: without --ocserv, that is what is tested"
        );
        if self.options.smoke {
            let mut command = Command::new("sh");
            command
                .args(["-c", &self.lab_script(&[])])
                .env(BIN_DIR, &self.bins);
            return smoke::check(report::count(&mut command, tally), tally);
        }
        // All programs, also when one fails, so that one run shows all failures.
        let mut command = cargo(self.root);
        command
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(programs::selection(&self.options.programs))
            .arg("--")
            .args(&self.options.arguments)
            .env(BIN_DIR, &self.bins);
        report::count(&mut command, tally)
    }

    fn in_debian(&self, suite: &str, release: &Release, tally: &mut Tally) -> anyhow::Result<()> {
        let system = DebianRoot::with_ocserv(suite, release.version.unwrap_or_default())?;
        let files = tempfile::Builder::new().prefix("oa-").tempdir()?;
        let mut command = system.command(&[self.root, &self.bins], files.path());
        command.arg(format!("--setenv={BIN_DIR}={}", self.bins.display()));
        eprintln!("-- not run in Debian {suite}: {}", NOT_IN_A_ROOT.join(", "));
        let skips = NOT_IN_A_ROOT
            .iter()
            .flat_map(|name| ["--skip".into(), name.into()]);
        let script = self.lab_script(&skips.collect::<Vec<OsString>>());
        let result = report::count(command.args(["sh", "-c", &script]), tally);
        if fs::read_dir(files.path())?.next().is_some() {
            // The files of failed labs; their output says which.
            let _ = files.keep();
        }
        if self.options.smoke {
            return smoke::check(result, tally);
        }
        result
    }

    /// Returns the shell script that runs the lab's tests as the options select them, with `more`
    /// arguments of the test programs.
    fn lab_script(&self, more: &[OsString]) -> String {
        let smoke = smoke::arguments();
        let arguments = if self.options.smoke {
            &smoke
        } else {
            &self.options.arguments
        };
        programs::script(self.root, &self.lab, &[more, arguments.as_slice()].concat())
    }
}
