//! `cargo xtask tidy`: the rules of this repository that the compiler cannot hold. Also run as a test.
//!
//! Each rule is a function from the [`Tree`] to what is wrong with it, so that its tests can show it a bad one.

mod arrows;
mod generated;
mod linked;
mod links;
mod lockfile;
mod manifests;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::{codegen, run};

/// One thing that is wrong, as one line: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    file: String,
    line: usize,
    what: String,
    mend: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.what, self.mend)
    }
}

/// The text files of a checkout by their path from its root, with `/` between the parts.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the files of the checkout at `root`: those that git tracks or would track, or where git cannot tell, all
    /// outside of build directories. Files that are not UTF-8 are left out.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let names = tracked(root).or_else(|_| walked(root))?;
        let mut files = BTreeMap::new();
        for name in names {
            let path = root.join(&name);
            // Deleted, but git still has it; or a link to a directory.
            if !path.is_file() {
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.insert(name, text);
            }
        }
        Ok(Self { files })
    }

    /// A tree of the given paths and texts.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file or a directory with files is at `path`; the root itself is the empty path.
    fn has(&self, path: &str) -> bool {
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .keys()
                .any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// The files that git tracks or would track, by their path from `root`.
fn tracked(root: &Path) -> anyhow::Result<Vec<String>> {
    // The owner of the checkout may be another user than root, who runs the tests.
    let trust = format!("safe.directory={}", root.display());
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let names = run::output(
        Command::new("git")
            .current_dir(root)
            .args(["-c", &trust])
            .args(list),
    )?;
    Ok(names.split_terminator('\0').map(ToOwned::to_owned).collect())
}

/// All files outside of `.git` and cargo's target directories, by their path from `root`.
fn walked(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        if dir.join("CACHEDIR.TAG").is_file() || dir.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        for path in codegen::files_in(&dir)? {
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

/// The number of the first line that `found` is true of, from 1; 1 where there is none.
fn line_where(text: &str, found: impl Fn(&str) -> bool) -> usize {
    text.lines()
        .position(|line| found(line.trim()))
        .map_or(1, |index| index + 1)
}

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
    ] {
        found.extend(rule(&tree));
    }
    found.extend(linked::check(root)?);
    found.extend(generated::check(root)?);
    Ok(found)
}

/// Prints what is wrong with the checkout at `root`, and fails when there is anything.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_one_line_that_editors_can_follow() {
        let (file, what) = ("a/b.rs".to_owned(), "it is long".to_owned());
        let violation = Violation {
            file,
            line: 7,
            what,
            mend: "cut it",
        };
        assert_eq!(violation.to_string(), "a/b.rs:7: it is long; cut it");
    }

    #[test]
    fn without_git_the_same_files_are_looked_at_but_no_build_directory() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("a/b.md", "text"),
            ("target/CACHEDIR.TAG", ""),
            ("target/c.md", ""),
            (".git/d", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(walked(root.path()).unwrap(), ["a/b.md"]);
        assert_eq!(Tree::read(root.path()).unwrap().text("a/b.md"), Some("text"));
    }

    #[test]
    fn a_tree_knows_files_and_directories() {
        let tree = Tree::of(&[("docs/a.md", "")]);
        assert!(tree.has("docs/a.md") && tree.has("docs") && tree.has(""));
        assert!(!tree.has("doc") && !tree.has("docs/b.md"));
    }
}
