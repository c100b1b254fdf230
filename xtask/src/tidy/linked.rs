//! What our programs link: one provider of cryptography, and a helper that stays light.
//!
//! Asked of `cargo tree` rather than read from `Cargo.lock`: the lock file also names optional crates that no feature
//! turns on.

use std::path::Path;

use super::Violation;
use crate::run::{self, cargo};

/// Crates that may not be in any tree: aws-lc-rs is the one provider of cryptography.
const BANNED: [&str; 4] = ["native-tls", "openssl", "openssl-sys", "ring"];

/// The program that runs at every login, and what must never be in its tree.
const HELPER: &str = "vpn-auth";
const NOT_IN_HELPER: [&str; 8] = [
    "clap", "hyper", "prost", "rustls", "tokio", "tonic", "toml", "tracing",
];

/// Asks cargo for the trees of the checkout at `root`, for the machine that this runs on.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let tree = |of: &[&str]| {
        let form = ["tree", "--locked", "--prefix", "none", "--format", "{p}"];
        run::output(cargo(root).args(form).args(of))
    };
    let mut found = banned(&tree(&["--workspace"])?);
    found.extend(heavy(&tree(&["--package", HELPER, "--edges", "normal"])?));
    Ok(found)
}

fn banned(tree: &str) -> Vec<Violation> {
    let is_there = |name: &&str| names(tree).any(|linked| linked == *name);
    let violation = |name| Violation {
        file: "Cargo.lock".to_owned(),
        line: 1,
        what: format!("{name} is linked"),
        mend: "`cargo tree --invert` shows by whom: choose features without it, aws-lc-rs is the provider",
    };
    BANNED.into_iter().filter(is_there).map(violation).collect()
}

fn heavy(tree: &str) -> Vec<Violation> {
    let is_there = |name: &&str| names(tree).any(|linked| linked == *name);
    let violation = |name| Violation {
        file: format!("bins/{HELPER}/Cargo.toml"),
        line: 1,
        what: format!("{HELPER} links {name}"),
        mend: "it starts at every login: keep it to std, serde and ipc",
    };
    NOT_IN_HELPER
        .into_iter()
        .filter(is_there)
        .map(violation)
        .collect()
}

/// The names in a tree with one package per line: `name vVERSION …`.
fn names(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter_map(|line| line.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "vpn-auth v0.1.0 (/x/bins/vpn-auth)\nserde_json v1.0.0\ntokio-lookalike v1.0.0\n";

    #[test]
    fn a_light_tree_is_fine() {
        assert_eq!(banned(TREE), []);
        assert_eq!(heavy(TREE), []);
    }

    #[test]
    fn a_second_provider_is_found() {
        for name in BANNED {
            assert_eq!(banned(&format!("{TREE}{name} v1.0.0\n")).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_heavy_helper_is_found() {
        for name in NOT_IN_HELPER {
            let said = heavy(&format!("{TREE}{name} v1.0.0 (*)\n"));
            assert_eq!(said.len(), 1, "{name}");
            assert!(
                said[0]
                    .to_string()
                    .starts_with("bins/vpn-auth/Cargo.toml:1: vpn-auth links"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn the_tree_of_the_helper_is_really_looked_at() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tree = run::output(cargo(&root).args(["tree", "--package", HELPER, "--prefix", "none"])).unwrap();
        assert!(names(&tree).any(|name| name == HELPER), "{tree}");
        assert!(names(&tree).any(|name| name == "serde_json"), "{tree}");
    }
}
