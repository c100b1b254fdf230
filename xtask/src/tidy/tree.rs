//! The text files that the rules read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::{codegen, run};

/// The text files of a checkout by their path from its root, with `/` between the parts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the files that git tracks or would track; without git, all files outside build
    /// directories. Leaves out files that are not UTF-8.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let names = git_files(root).or_else(|_| walk(root))?;
        let mut files = BTreeMap::new();
        for name in names {
            let path = root.join(&name);
            // Git also lists deleted files and links to directories.
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

    /// Builds a tree from pairs of path and text.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file or a directory with files exists at `path`; the empty path is the root.
    pub(super) fn has(&self, path: &str) -> bool {
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .keys()
                .any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// Lists the files that git tracks or would track, by their path from `root`.
fn git_files(root: &Path) -> anyhow::Result<Vec<String>> {
    // The checkout may belong to another user than root, who runs the tests.
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

/// Lists all files outside `.git` and cargo's target directories, by their path from `root`.
fn walk(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        if dir.join("CACHEDIR.TAG").is_file() || dir.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        for path in codegen::files_in(&dir)? {
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else {
                files.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_all_files_outside_build_directories_are_read() {
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
        assert_eq!(walk(root.path()).unwrap(), ["a/b.md"]);
        assert_eq!(Tree::read(root.path()).unwrap().text("a/b.md"), Some("text"));
    }

    #[test]
    fn has_finds_files_and_directories() {
        let tree = Tree::of(&[("docs/a.md", "")]);
        assert!(tree.has("docs/a.md") && tree.has("docs") && tree.has(""));
        assert!(!tree.has("doc") && !tree.has("docs/b.md"));
    }
}
