//! `cargo xtask setup`: what the tests and the demo need of the machine, installed where it is
//! missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::run;

/// A program that must be there, the Debian packages that bring it, and what it is for.
struct Need {
    program: &'static str,
    /// Arguments with which it must succeed; empty if it is enough that it is there.
    check: &'static [&'static str],
    packages: &'static [&'static str],
    why: &'static str,
}

impl Need {
    fn is_met(&self) -> bool {
        let succeeds = |program: PathBuf| Command::new(program).args(self.check).output();
        find(self.program).is_some_and(|program| {
            self.check.is_empty() || succeeds(program).is_ok_and(|output| output.status.success())
        })
    }
}

/// For the lab: real ocserv and its clients, on this machine.
const LAB: [Need; 7] = [
    Need {
        program: "ocserv",
        check: &[],
        packages: &["ocserv"],
        why: "the VPN server that the agent runs beside",
    },
    Need {
        program: "openconnect",
        check: &[],
        packages: &["openconnect"],
        why: "the VPN client that logs in to it",
    },
    Need {
        program: "ip",
        check: &[],
        packages: &["iproute2"],
        why: "network namespaces for both",
    },
    Need {
        program: "iptables",
        check: &[],
        packages: &["iptables"],
        why: "restrict-user-to-routes, which ocserv does with it",
    },
    Need {
        program: "cc",
        check: &[],
        packages: &["gcc", "libc6-dev"],
        why: "links Rust programs and builds their TLS library",
    },
    Need {
        program: "openssl",
        check: &[],
        packages: &["openssl"],
        why: "plays a TLS 1.2 peer, which must be refused",
    },
    Need {
        // Debian's own, which has the package's modules.
        program: "/usr/bin/python3",
        check: &["-c", "import grpc"],
        packages: &["python3-grpcio"],
        why: "plays a portal in another language",
    },
];

/// For fuzzing.
const FUZZ: [Need; 1] = [Need {
    program: "c++",
    check: &[],
    packages: &["g++"],
    why: "builds libFuzzer",
}];

/// For the lab on the ocserv of other Debian suites.
const DEBIAN_ROOTS: [Need; 2] = [
    Need {
        program: "debootstrap",
        check: &[],
        packages: &["debootstrap"],
        why: "makes a system of another Debian suite",
    },
    Need {
        program: "systemd-nspawn",
        check: &[],
        packages: &["systemd-container"],
        why: "runs tests in it",
    },
];

/// What must be done about the needs that are not met.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing is missing.
    Ready,
    /// Install these packages.
    Install(Vec<&'static str>),
    /// An error with this text: the user must do it.
    Fail(String),
}

/// Installs what fuzzing needs. An error where that is not possible.
pub fn fuzz() -> anyhow::Result<()> {
    provide(&FUZZ)
}

/// Installs what the lab needs. An error where that is not possible.
pub fn lab() -> anyhow::Result<()> {
    provide(&LAB)
}

/// Installs what tests on other Debian suites need beside. An error where that is not possible.
pub fn debian_roots() -> anyhow::Result<()> {
    provide(&DEBIAN_ROOTS)
}

/// Prints what is missing and why it is needed, and installs it with apt-get.
fn provide(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    for need in &missing {
        eprintln!(
            "missing: {} (package {}): {}",
            need.program,
            need.packages.join(", "),
            need.why
        );
    }
    match plan(&missing, find("apt-get").is_some(), run::is_root()) {
        Plan::Ready => {
            let names: Vec<_> = needs.iter().map(|need| need.program).collect();
            eprintln!("required and installed: {}", names.join(", "));
            Ok(())
        }
        Plan::Fail(sentence) => bail!(sentence),
        Plan::Install(packages) => install(needs, &packages),
    }
}

/// Decides what to do about `missing`.
fn plan(missing: &[&Need], has_apt: bool, is_root: bool) -> Plan {
    if missing.is_empty() {
        return Plan::Ready;
    }
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let names = packages.join(" ");
    match (has_apt, is_root) {
        (true, true) => Plan::Install(packages),
        (true, false) => Plan::Fail(format!(
            "installing needs root; run: sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
        )),
        (false, _) => Plan::Fail(format!(
            "this machine has no apt-get, so install with its own package manager what Debian calls: {names}"
        )),
    }
}

fn install(needs: &[Need], packages: &[&str]) -> anyhow::Result<()> {
    eprintln!(
        "installing with apt-get, services not started: {}",
        packages.join(" ")
    );
    let script = include_str!("setup/install.sh");
    let status = Command::new("sh")
        .args(["-c", script, "install.sh"])
        .args(packages)
        .status()?;
    if !status.success() {
        bail!("apt-get could not install {}: {status}", packages.join(" "));
    }
    match needs.iter().find(|need| !need.is_met()) {
        Some(need) => bail!(
            "{} is still missing after apt-get installed {}",
            need.program,
            need.packages.join(", ")
        ),
        None => Ok(()),
    }
}

/// Finds a program in the PATH, or where system programs are, which many users' PATH leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_missing_needs_neither_root_nor_apt() {
        assert_eq!(plan(&[], false, false), Plan::Ready);
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(
            plan(&[&LAB[1], &LAB[4]], true, true),
            Plan::Install(vec!["openconnect", "gcc", "libc6-dev"])
        );
    }

    #[test]
    fn without_root_the_error_has_a_command_to_copy() {
        let Plan::Fail(sentence) = plan(&[&LAB[0]], true, false) else {
            panic!("must not install")
        };
        assert!(
            sentence.ends_with("apt-get install -y --no-install-recommends ocserv"),
            "{sentence}"
        );
    }

    #[test]
    fn without_apt_the_error_names_the_packages() {
        let Plan::Fail(sentence) = plan(&[&LAB[0], &LAB[2]], false, true) else {
            panic!("must not install")
        };
        assert!(sentence.ends_with("ocserv iproute2"), "{sentence}");
    }

    #[test]
    fn a_program_is_found_and_a_missing_one_is_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
        assert!(!is_program(Path::new("/etc/passwd")), "not executable");
    }

    #[test]
    fn a_program_that_does_not_succeed_is_missing() {
        let need = |check| Need {
            program: "sh",
            check,
            packages: &[],
            why: "",
        };
        assert!(need(&[]).is_met() && need(&["-c", "exit 0"]).is_met());
        assert!(!need(&["-c", "exit 1"]).is_met());
    }

    #[test]
    fn the_install_script_is_valid_shell() {
        let script = include_str!("setup/install.sh");
        assert!(
            Command::new("sh")
                .args(["-n", "-c", script])
                .status()
                .unwrap()
                .success()
        );
    }
}
