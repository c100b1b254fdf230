//! The committed generated code equals what the generator makes of `proto/`.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::violation::Violation;
use crate::codegen;

/// The directory of the generated code.
pub(super) const DIR: &str = codegen::OUT_DIR;

/// Generates into a temporary directory and compares.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let fresh = tempfile::tempdir().context("could not create a temporary directory")?;
    codegen::generate(root, fresh.path())?;
    compare(&root.join(DIR), fresh.path())
}

/// Reports each file that differs between the two directories or is in one of them only.
fn compare(committed: &Path, fresh: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut names: Vec<_> = [committed, fresh]
        .into_iter()
        .flat_map(|dir| codegen::files_in(dir).unwrap_or_default())
        .filter_map(|path| path.file_name().map(ToOwned::to_owned))
        .collect();
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let (old, new) = (fs::read(committed.join(&name)), fs::read(fresh.join(&name)));
        let problem = match (&old, &new) {
            (Ok(old), Ok(new)) if old == new => continue,
            (Ok(_), Ok(_)) => "is stale",
            (Ok(_), Err(_)) => "has no source under proto/",
            (Err(_), _) => "is missing",
        };
        let old = old.unwrap_or_default();
        let line = first_difference(&old, &new.unwrap_or_default());
        let file = format!("{DIR}/{}", name.to_string_lossy());
        found.push(Violation {
            file,
            line,
            problem: problem.to_owned(),
            fix: "run `cargo xtask codegen` and commit",
        });
    }
    Ok(found)
}

/// The line of `old`, from 1, where it first differs from `new`.
fn first_difference(old: &[u8], new: &[u8]) -> usize {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    old[..same].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_missing_and_orphaned_files_are_found() {
        let (committed, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |dir: &Path, name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write(committed.path(), "same.rs", "a");
        write(fresh.path(), "same.rs", "a");
        write(committed.path(), "stale.rs", "a\nb\n");
        write(fresh.path(), "stale.rs", "a\nc\n");
        write(fresh.path(), "missing.rs", "a");
        write(committed.path(), "orphan.rs", "a");
        let found = compare(committed.path(), fresh.path()).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("missing.rs:1: is missing"), "{found:?}");
        assert!(found[1].contains("orphan.rs:1: has no source"), "{found:?}");
        assert!(found[2].contains("stale.rs:2: is stale"), "{found:?}");
    }

    #[test]
    fn generating_twice_gives_the_same_bytes() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proto")).unwrap();
        let text = "syntax = \"proto3\";\npackage a.v1;\n// A thing.\nmessage Thing { string name = 1; }\n";
        fs::write(root.path().join("proto/a.proto"), text).unwrap();
        let written = codegen::run(root.path()).unwrap();
        assert_eq!(written.len(), 2, "{written:?}");
        assert_eq!(check(root.path()).unwrap(), []);
        fs::write(root.path().join("proto/a.proto"), text.replace("thing", "Thing")).unwrap();
        assert_eq!(
            check(root.path()).unwrap().len(),
            1,
            "a comment changed, so the Rust is stale"
        );
    }
}
