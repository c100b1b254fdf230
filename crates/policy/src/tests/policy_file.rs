//! Tests of the watcher.
#![expect(clippy::disallowed_methods, reason = "editors write in place, too")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Policy, PolicyFile, PolicyFileError};

const WHOLE: &str =
    "version = 1\ndefault = \"allow\"\nrules = [{ verdict = \"deny\", users = [\"mallory\"] }]\n";
const HALF: &str = "version = 1\ndefault = \"allow\"\n";

/// A policy file on the disk and its watcher.
struct Watched {
    file: PolicyFile,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Watched {
    fn open(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        fs::write(&path, text).unwrap();
        let (file, policy) = PolicyFile::open(&path).unwrap();
        assert_eq!(policy, Arc::new(Policy::parse(text, "").unwrap()));
        Self {
            file,
            path,
            _dir: dir,
        }
    }

    fn poll(&mut self) -> Option<Result<usize, String>> {
        let change = self.file.poll()?;
        Some(
            change
                .map(|policy| policy.rule_count())
                .map_err(|error| error.to_string()),
        )
    }

    fn poll_with(&mut self, text: &str) -> Option<Result<usize, ()>> {
        fs::write(&self.path, text).unwrap();
        Some(self.poll()?.map_err(|_| ()))
    }
}

#[test]
fn a_change_is_returned_once_when_two_reads_in_a_row_agree() {
    let mut watched = Watched::open(WHOLE);
    for (text, expected) in [
        (WHOLE, None),
        (HALF, None),
        (WHOLE, None),
        ("", None),
        (WHOLE, None),
        (WHOLE, None),
        ("", None),
        ("", Some(Err(()))),
        ("", None),
        (HALF, None),
        (HALF, Some(Ok(0))),
        (HALF, None),
        ("", None),
        ("", Some(Err(()))),
        ("version = 2", None),
        ("version = 2", Some(Err(()))),
        (HALF, None),
        (HALF, Some(Ok(0))),
        (WHOLE, None),
        (WHOLE, Some(Ok(1))),
    ] {
        assert_eq!(watched.poll_with(text), expected, "{text:?}");
    }
}

#[test]
fn a_file_written_in_two_halves_between_two_reads_is_never_returned_half_written() {
    let mut watched = Watched::open("version = 1\n");
    assert_eq!(watched.poll_with(HALF), None);
    assert_eq!(watched.poll_with(WHOLE), None);
    assert_eq!(watched.poll(), Some(Ok(1)));
}

#[test]
fn a_missing_file_is_an_error_with_its_path() {
    let mut watched = Watched::open(WHOLE);
    fs::remove_file(&watched.path).unwrap();
    assert_eq!(watched.poll(), None);
    let expected = format!("{}: cannot be read", watched.path.display());
    assert_eq!(watched.poll(), Some(Err(expected)));
    assert_eq!(watched.poll(), None);
    assert!(matches!(
        PolicyFile::open(&watched.path),
        Err(PolicyFileError::Read { .. })
    ));
}

#[test]
fn a_file_of_4_mib_is_read_and_a_larger_one_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    let comment = "#".repeat((4 << 20) - WHOLE.len());
    fs::write(&path, format!("{WHOLE}{comment}")).unwrap();
    assert_eq!(PolicyFile::open(&path).unwrap().1.rule_count(), 1);
    fs::write(&path, format!("{WHOLE}{comment}#")).unwrap();
    let error = PolicyFile::open(&path).unwrap_err();
    assert!(matches!(error, PolicyFileError::TooLarge { .. }), "{error}");
}

#[test]
fn an_endless_file_is_too_large() {
    let error = PolicyFile::open("/dev/zero".as_ref()).unwrap_err();
    assert!(matches!(error, PolicyFileError::TooLarge { .. }), "{error}");
}
