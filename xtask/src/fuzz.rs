//! `cargo xtask fuzz`: searches for bytes from outside that break a promise; replays the corpora.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::run::{self, cargo};
use crate::setup;

/// The directory of the fuzz targets' workspace, from the root.
const DIR: &str = "fuzz";

/// Longest input in bytes: some of the targets read up to 1 MiB, but small inputs find more.
const MAX_LENGTH: usize = 16 << 10;

/// Gives each target the inputs that are committed; needs no libFuzzer.
pub fn replay(root: &Path) -> anyhow::Result<()> {
    // The workspace's own target directory: most of what it needs is built there already.
    let target = run::target_dir()?;
    let mut test = cargo(&root.join(DIR));
    run::run(test.args(["test", "--locked"]).env("CARGO_TARGET_DIR", target))
}

/// Runs each target for `seconds`. New inputs go to the target directory; what breaks a promise is
/// an error that names the file.
pub fn run(root: &Path, seconds: u64) -> anyhow::Result<()> {
    setup::fuzz()?;
    let fuzz = root.join(DIR);
    let target = run::target_dir()?.join(DIR);
    let cargo_fuzz = cargo_fuzz(root, &target)?;
    let targets = targets(&fuzz)?;
    // First, because a target that does not build breaks no promise.
    run::run(&mut fuzz_command(&cargo_fuzz, "build", root, &target))?;
    let mut failed = Vec::new();
    for (number, name) in targets.iter().enumerate() {
        eprintln!("-- {name} ({} of {}), {seconds} s", number + 1, targets.len());
        let found = target.join("found").join(name);
        fs::create_dir_all(&found).with_context(|| format!("could not create {}", found.display()))?;
        let mut command = fuzz_command(&cargo_fuzz, "run", root, &target);
        command
            .arg(name)
            .args([&found, &fuzz.join("corpus").join(name)])
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={MAX_LENGTH}"))
            .args(["-timeout=10", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", target.display()));
        if run::run(&mut command).is_err() {
            failed.push(name.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "promises broken by inputs of: {}. Each is a file in {}; add it to {DIR}/corpus and mend the code",
        failed.join(", "),
        target.display()
    );
    Ok(())
}

fn fuzz_command(cargo_fuzz: &Path, subcommand: &str, root: &Path, target: &Path) -> Command {
    let mut command = Command::new(cargo_fuzz);
    command
        .current_dir(root)
        .args(["fuzz", subcommand, "--features", "libfuzzer", "--fuzz-dir", DIR])
        .arg("--target-dir")
        .arg(target.join("build"))
        // The sanitizer and the coverage counters are unstable options of rustc.
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

/// The names of the targets, in alphabetical order.
fn targets(fuzz: &Path) -> anyhow::Result<Vec<String>> {
    let directory = fuzz.join("targets");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("could not read {}", directory.display()))?;
    let mut names = entries
        .map(|entry| {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default();
            Ok(name.to_string_lossy().into_owned())
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The program `cargo-fuzz`, installed below `target` where it is missing.
fn cargo_fuzz(root: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = setup::find("cargo-fuzz") {
        return Ok(path);
    }
    let tools = target.join("tools");
    let path = tools.join("bin/cargo-fuzz");
    if !path.exists() {
        run::run(
            cargo(root)
                .args(["install", "cargo-fuzz", "--locked", "--root"])
                .arg(&tools),
        )?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let fuzz = root.join(DIR);
        let targets = targets(&fuzz).unwrap();
        assert!(!targets.is_empty());
        for name in targets {
            assert!(fuzz.join("corpus").join(&name).is_dir(), "{name}");
        }
    }
}
