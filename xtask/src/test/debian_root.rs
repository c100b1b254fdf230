//! A Debian system in a directory, with its suite's ocserv: made once with debootstrap, kept
//! outside the repository.
//!
//! It is at `$XDG_CACHE_HOME/ocserv-agent/roots/SUITE`, by default under `/var/cache`, and may be
//! deleted at any time: the next run makes it again, from the mirror that this machine's own apt
//! sources name.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use super::release;
use crate::run;

/// The packages that the tests of another release of ocserv need.
const OCSERV: &str = "ocserv,openconnect,iproute2,iptables,nftables,procps,openssl";
/// The packages of a system that boots, and its suite: that of this machine, whose programs run in
/// it.
const BOOTED: &str = "systemd,systemd-sysv,dbus,iproute2";
const BOOTED_SUITE: &str = "bookworm";
/// The file in it with the packages that it was made with. When those change, it is made again.
const STAMP: &str = "etc/ocserv-agent-packages";
/// Lines of debootstrap's output in an error.
const TAIL: usize = 15;
/// Variables of this process that are passed on to the programs in it.
const PASSED_ON: [&str; 2] = ["OCSERV_AGENT_KEEP", "RUST_BACKTRACE"];

/// A Debian system in a directory.
#[derive(Debug)]
pub(super) struct DebianRoot {
    path: PathBuf,
    suite: String,
    packages: &'static str,
}

impl DebianRoot {
    /// Finds or makes the system of a suite. An error when the suite has another version of ocserv.
    pub(super) fn with_ocserv(suite: &str, version: &str) -> anyhow::Result<Self> {
        let _lock = lock()?;
        let system = Self {
            path: roots().join(suite),
            suite: suite.to_owned(),
            packages: OCSERV,
        };
        if !system.is_whole() || system.ocserv_version()? != version {
            system.make()?;
        }
        let found = system.ocserv_version()?;
        eprintln!(
            "-- ocserv {found}, of Debian {suite} in {}",
            system.path.display()
        );
        ensure!(
            found == version,
            "Debian {suite} has ocserv {found} now, not {version}: the version in xtask/src/test/release.rs is out of date"
        );
        Ok(system)
    }

    /// Finds or makes a system with systemd.
    pub(super) fn that_boots() -> anyhow::Result<Self> {
        let _lock = lock()?;
        let system = Self {
            path: roots().join(format!("booted-{BOOTED_SUITE}")),
            suite: BOOTED_SUITE.to_owned(),
            packages: BOOTED,
        };
        if !system.is_whole() {
            system.make()?;
        }
        Ok(system)
    }

    /// Returns its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made with the packages that it should have.
    fn is_whole(&self) -> bool {
        fs::read_to_string(self.path.join(STAMP)).is_ok_and(|stamp| stamp == self.packages)
    }

    /// Returns a command that runs its further arguments in the system, with the paths of `shared`
    /// to read and `temporary` to write. All other changes are discarded when the command ends.
    pub(super) fn command(&self, shared: &[&Path], temporary: &Path) -> Command {
        let mut command = Command::new("systemd-nspawn");
        command.args(["--quiet", "--pipe", "--as-pid2", "--volatile=overlay"]);
        command.args([
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--capability=all",
        ]);
        command
            .arg("--bind=/dev/net/tun")
            .arg("--directory")
            .arg(&self.path);
        for path in shared {
            command.arg(option("--bind-ro", path));
        }
        command
            .arg(option("--bind", temporary))
            .arg(option("--setenv=TMPDIR", temporary));
        for name in PASSED_ON {
            if let Ok(value) = env::var(name) {
                command.arg(format!("--setenv={name}={value}"));
            }
        }
        command
    }

    fn ocserv_version(&self) -> anyhow::Result<String> {
        release::version_of(Command::new("chroot").arg(&self.path).arg("ocserv"))
    }

    /// Makes the system beside its place, and moves it there when it is whole.
    fn make(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let partial = self.path.with_extension("partial");
        let log = self.path.with_extension("log");
        remove(&self.path)?;
        remove(&partial)?;
        eprintln!(
            "-- making a Debian {} in {}; progress is in {}",
            self.suite,
            self.path.display(),
            log.display()
        );
        let output = File::create(&log)?;
        // In a mount namespace of its own, so that no mount of an interrupted debootstrap is left.
        let status = Command::new("unshare")
            .args([
                "--mount",
                "debootstrap",
                "--variant=minbase",
                &format!("--include={}", self.packages),
            ])
            .arg(&self.suite)
            .arg(&partial)
            .arg(mirror()?)
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("could not start debootstrap")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            bail!("debootstrap of {} failed: {status}:\n{tail}", self.suite);
        }
        run::output(Command::new("chroot").arg(&partial).args(["apt-get", "clean"]))?;
        fs::write(partial.join(STAMP), self.packages)?;
        fs::rename(&partial, &self.path)?;
        eprintln!("-- made it in {} s", start.elapsed().as_secs());
        Ok(())
    }
}

/// Waits until no other process makes a system.
fn lock() -> anyhow::Result<File> {
    let roots = roots();
    fs::create_dir_all(&roots).with_context(|| format!("could not make {}", roots.display()))?;
    let lock = File::create(roots.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Returns the directory of all systems.
fn roots() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let cache = cache.map_or_else(|| PathBuf::from("/var/cache"), PathBuf::from);
    cache.join("ocserv-agent/roots")
}

/// Finds Debian's archive in the apt sources of this machine.
fn mirror() -> anyhow::Result<String> {
    let sources = || {
        run::output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(ORIGIN) $(RELEASE) $(REPO_URI)",
            "Identifier: Packages",
        ]))
    };
    if let Some(mirror) = mirror_in(&sources()?) {
        return Ok(mirror);
    }
    // The origin of an archive is in its lists, which this machine may not have yet.
    run::output(Command::new("apt-get").args(["-q", "update"]))?;
    mirror_in(&sources()?).context("no apt source of this machine is Debian's archive")
}

/// Returns the address of the first archive of Debian itself: those of updates and security have no
/// other suites.
fn mirror_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let [origin, suite, address] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        (origin == "Debian" && !suite.contains('-')).then(|| address.to_owned())
    })
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not delete {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_main_archive() {
        let text = "Google stable http://packages.test/apt/\n\
                    Debian bookworm-security http://mirror.test/debian-security/\n\
                    Debian bookworm http://mirror.test/debian/\n\
                    Debian bookworm-updates http://other.test/debian/\n";
        assert_eq!(mirror_in(text).as_deref(), Some("http://mirror.test/debian/"));
        assert_eq!(mirror_in("Ubuntu noble http://mirror.test/ubuntu/\n"), None);
    }
}
