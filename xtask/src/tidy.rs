//! `cargo xtask tidy`: rules of this repository that the compiler cannot check. Also run as a test.
//!
//! Each rule maps a [`Tree`] to violations, so that its tests can give it a bad tree.

mod arrows;
mod cycles;
mod generated;
mod layers;
mod linked;
mod links;
mod lockfile;
mod manifests;
mod modules;
mod paths;
mod prose;
mod sources;
mod tree;
mod violation;

use std::path::Path;

use anyhow::bail;

use self::tree::Tree;
pub use self::violation::Violation;

/// Applies all rules to the checkout at `root`.
pub fn violations(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let tree = Tree::read(root)?;
    let mut found = Vec::new();
    for rule in [
        arrows::check,
        manifests::check,
        sources::check,
        lockfile::check,
        links::check,
        prose::check,
        cycles::check,
        layers::check,
    ] {
        found.extend(rule(&tree));
    }
    found.extend(linked::check(root)?);
    found.extend(generated::check(root)?);
    Ok(found)
}

/// Prints the violations in the checkout at `root`; an error when there are any.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let found = violations(root)?;
    for violation in &found {
        println!("{violation}");
    }
    match found.len() {
        0 => Ok(()),
        count => bail!(
            "tidy found {count} {}",
            if count == 1 { "violation" } else { "violations" }
        ),
    }
}
