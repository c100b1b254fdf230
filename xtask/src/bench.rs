//! `cargo xtask bench` and `cargo xtask helper`: measures optimised programs; builds the helper.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::run::{self, cargo};
use crate::{setup, test};

/// The variable by which the lab's program finds the helper as shipped.
const HELPER: &str = "OCSERV_AGENT_HELPER";

/// Largest size of the helper, in bytes.
const HELPER_LIMIT: u64 = 1_500_000;

/// Installs what is missing, builds everything optimised, and measures the helper, the pure cores,
/// and the programs in the lab. `arguments` are those of the lab's program. Measures everything,
/// also after a figure that is over its limit, and fails at the end.
pub fn run(root: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    setup::lab()?;
    let helper = helper(root)?;
    let release = [
        "build",
        "--locked",
        "--release",
        "--package",
        "ocserv-agent",
        "--package",
        "portal-dev",
    ];
    run::run(cargo(root).args(release))?;

    let mut exec = cargo(root);
    exec.args(["bench", "--locked", "--package", "vpn-auth", "--bench", "exec"])
        .env("VPN_AUTH_STATIC", &helper.path)
        .env("VPN_AUTH_TARGET", &helper.target);
    let mut cores = cargo(root);
    cores.args(["bench", "--locked", "--package", "resilience", "--bench", "cores"]);
    let mut outbox = cargo(root);
    outbox.args([
        "bench",
        "--locked",
        "--package",
        "outbox",
        "--bench",
        "append",
        "--bench",
        "backlog",
    ]);
    let mut lab = cargo(root);
    lab.args([
        "run",
        "--locked",
        "--release",
        "--package",
        "testkit",
        "--bin",
        "bench",
        "--",
    ])
    .args(arguments)
    .env(test::BIN_DIR, run::target_dir()?.join("release"))
    .env(HELPER, &helper.path);

    let mut failed = 0;
    for measurement in [&mut exec, &mut cores, &mut outbox, &mut lab] {
        if let Err(error) = run::run(measurement) {
            eprintln!("{error:#}");
            failed += 1;
        }
    }
    ensure!(failed == 0, "{failed} of 4 measurements failed");
    Ok(())
}

/// The helper as shipped.
#[derive(Debug)]
pub struct Helper {
    /// The program.
    pub path: PathBuf,
    /// The target that it is built for, such as `x86_64-unknown-linux-musl`.
    pub target: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Builds the helper statically with its own profile: against musl where that target is installed,
/// otherwise against the host's libc. Prints its path and size; an error when it is too large.
pub fn helper(root: &Path) -> anyhow::Result<Helper> {
    let host = host()?;
    let target = static_target(&host, &installed_targets()?);
    run::run(
        cargo(root)
            .args([
                "build",
                "--locked",
                "--profile",
                "helper",
                "--package",
                "vpn-auth",
                "--target",
                &target,
            ])
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let path = run::target_dir()?.join(&target).join("helper/vpn-auth");
    let size = std::fs::metadata(&path)
        .with_context(|| format!("could not find {}", path.display()))?
        .len();
    println!("{}: {size} bytes, static, {target}", path.display());
    ensure!(
        size <= HELPER_LIMIT,
        "the helper has {size} bytes, more than {HELPER_LIMIT}"
    );
    Ok(Helper { path, target, size })
}

/// Returns the musl target of the host's architecture where it is installed, otherwise the host.
fn static_target(host: &str, installed: &[String]) -> String {
    let architecture = host.split('-').next().unwrap_or(host);
    let musl = format!("{architecture}-unknown-linux-musl");
    if installed.contains(&musl) {
        musl
    } else {
        host.to_owned()
    }
}

/// Returns the target that the compiler runs on.
fn host() -> anyhow::Result<String> {
    let version = run::output(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc did not print its host")?.to_owned())
}

/// Lists the targets whose standard library is installed, with or without rustup.
fn installed_targets() -> anyhow::Result<Vec<String>> {
    let sysroot = run::output(rustc().args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    let entries =
        std::fs::read_dir(&libraries).with_context(|| format!("could not read {}", libraries.display()))?;
    let names = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

fn rustc() -> std::process::Command {
    std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn musl_is_used_where_it_is_installed() {
        let musl = "aarch64-unknown-linux-musl".to_owned();
        assert_eq!(
            static_target("aarch64-unknown-linux-gnu", std::slice::from_ref(&musl)),
            musl
        );
        assert_eq!(
            static_target("x86_64-unknown-linux-gnu", &[musl]),
            "x86_64-unknown-linux-gnu"
        );
    }

    #[test]
    fn the_host_is_among_the_installed_targets() {
        assert!(installed_targets().unwrap().contains(&host().unwrap()));
    }
}
