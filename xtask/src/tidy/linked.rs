//! The programs link one cryptography provider, and `vpn-auth` links few crates.
//!
//! Reads `cargo tree`, not `Cargo.lock`: the lock file also names optional crates that no feature
//! enables.

use std::path::Path;

use super::violation::Violation;
use crate::run::{self, cargo};

/// Crates that no program may link: aws-lc-rs is the one cryptography provider.
const BANNED: [&str; 4] = ["native-tls", "openssl", "openssl-sys", "ring"];

/// The program that runs at every login, and the crates that it may not link.
const HELPER: &str = "vpn-auth";
const NOT_IN_HELPER: [&str; 8] = [
    "clap", "hyper", "prost", "rustls", "tokio", "tonic", "toml", "tracing",
];

/// Checks the dependency trees of the checkout at `root`, for the host's target.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let tree = |of: &[&str]| {
        let form = ["tree", "--locked", "--prefix", "none", "--format", "{p}"];
        run::output(cargo(root).args(form).args(of))
    };
    let mut found = check_banned(&tree(&["--workspace"])?);
    found.extend(check_helper(&tree(&["--package", HELPER, "--edges", "normal"])?));
    Ok(found)
}

fn check_banned(tree: &str) -> Vec<Violation> {
    let is_linked = |name: &&str| names(tree).any(|linked| linked == *name);
    let violation = |name| Violation {
        file: "Cargo.lock".to_owned(),
        line: 1,
        problem: format!("{name} is linked"),
        fix: "find its dependents with `cargo tree --invert` and disable the feature that enables it",
    };
    BANNED.into_iter().filter(is_linked).map(violation).collect()
}

fn check_helper(tree: &str) -> Vec<Violation> {
    let is_linked = |name: &&str| names(tree).any(|linked| linked == *name);
    let violation = |name| Violation {
        file: format!("bins/{HELPER}/Cargo.toml"),
        line: 1,
        problem: format!("{HELPER} links {name}"),
        fix: "it starts at every login: limit it to std, serde and ipc",
    };
    NOT_IN_HELPER
        .into_iter()
        .filter(is_linked)
        .map(violation)
        .collect()
}

/// The package names of a tree with one package per line: `name vVERSION …`.
fn names(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter_map(|line| line.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "vpn-auth v0.1.0 (/x/bins/vpn-auth)\nserde_json v1.0.0\ntokio-lookalike v1.0.0\n";

    #[test]
    fn a_small_tree_is_allowed() {
        assert_eq!(check_banned(TREE), []);
        assert_eq!(check_helper(TREE), []);
    }

    #[test]
    fn a_second_provider_is_found() {
        for name in BANNED {
            assert_eq!(check_banned(&format!("{TREE}{name} v1.0.0\n")).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_crate_banned_from_the_helper_is_found() {
        for name in NOT_IN_HELPER {
            let found = check_helper(&format!("{TREE}{name} v1.0.0 (*)\n"));
            assert_eq!(found.len(), 1, "{name}");
            assert!(
                found[0]
                    .to_string()
                    .starts_with("bins/vpn-auth/Cargo.toml:1: vpn-auth links"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_tree_of_the_helper_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tree = run::output(cargo(&root).args(["tree", "--package", HELPER, "--prefix", "none"])).unwrap();
        assert!(names(&tree).any(|name| name == HELPER), "{tree}");
        assert!(names(&tree).any(|name| name == "serde_json"), "{tree}");
    }
}
