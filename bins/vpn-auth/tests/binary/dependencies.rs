//! The helper's dependencies.

use std::process::Command;

/// All dependencies, also at build time. Each is a decision: the helper starts on every login, as
/// root.
const ALLOWED: [&str; 17] = [
    "bitflags",
    "itoa",
    "linux-raw-sys",
    "memchr",
    "ipc",
    "proc-macro2",
    "quote",
    "rustix",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "zmij",
];

#[test]
fn the_helper_has_no_dependency_that_is_not_listed() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "vpn-auth",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    let unlisted: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "vpn-auth" && !ALLOWED.contains(name))
        .collect();
    assert_eq!(unlisted, [""; 0]);
    assert!(tree.contains("ipc"), "{tree}");
}
