//! The lab's test programs: built by cargo here, run by a shell wherever an ocserv is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;
use serde_json::Value;

use crate::run::{self, cargo};

/// The package of the tests that need a real ocserv.
const PACKAGE: &str = "crates/testkit";

/// Returns cargo's arguments that select these test programs; none for all.
pub(super) fn selection(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().flat_map(|name| ["--test", name])
}

/// Builds the test programs of the lab, all or those with these names.
pub(super) fn build(root: &Path, names: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut build = cargo(root);
    build
        .args([
            "test",
            "--workspace",
            "--locked",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .args(selection(names))
        .stderr(Stdio::inherit());
    let text = run::output(&mut build)?;
    let programs: Vec<_> = text.lines().filter_map(|line| program(root, line)).collect();
    ensure!(!programs.is_empty(), "no test program of the lab was selected");
    Ok(programs)
}

/// Reads the path of a program from a line of cargo's output, if it is a test program of the lab.
fn program(root: &Path, line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let manifest = root.join(PACKAGE).join("Cargo.toml");
    let is_ours = message["manifest_path"].as_str() == manifest.to_str();
    let is_test = message["target"]["kind"] == serde_json::json!(["test"]);
    let path = message["executable"].as_str().filter(|_| is_ours && is_test)?;
    Some(path.into())
}

/// Returns a shell script that runs all programs with these arguments and fails when one has
/// failed.
pub(super) fn script(root: &Path, programs: &[PathBuf], arguments: &[OsString]) -> String {
    let arguments: String = arguments
        .iter()
        .map(|argument| format!(" {}", run::quoted(argument)))
        .collect();
    let mut script = format!("cd {}; failed=0\n", run::quoted(root.join(PACKAGE).as_os_str()));
    for path in programs {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let program = run::quoted(path.as_os_str());
        script.push_str(&format!(
            "echo; echo '     Running {name}'\n{program}{arguments} || failed=1\n"
        ));
    }
    script.push_str("exit $failed");
    script
}
