//! Tests of the copy of the last good policy.
#![expect(clippy::disallowed_methods, reason = "tests damage files")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::policy_file::MAX_BYTES;
use crate::{PolicyCopy, PolicyCopyError};

const POLICY: &str =
    "version = 1\ndefault = \"allow\"\nrules = [{ verdict = \"deny\", users = [\"mallory\"] }]\n";
const HALF: &str = "version = 1\ndefault = \"allow\"\n";

/// Returns the number of rules of the copy in `directory`.
fn load(directory: &Path) -> Result<Option<usize>, PolicyCopyError> {
    let policy = PolicyCopy::in_directory(directory).load()?;
    Ok(policy.map(|policy| policy.rule_count()))
}

/// Asserts that what `change` makes of a good copy is refused with an error that contains
/// `expected`, and that a save replaces it unless it `is_kept`.
fn check(change: impl Fn(&Path), expected: &str, is_kept: bool) {
    let dir = tempfile::tempdir().unwrap();
    let copy = PolicyCopy::in_directory(dir.path());
    copy.save(POLICY).unwrap();
    change(copy.path());
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(copy.save(HALF).is_err(), is_kept, "{expected}");
    assert_eq!(load(dir.path()).is_err(), is_kept, "{expected}");
}

#[test]
fn a_copy_is_loaded_as_it_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("made/state");
    let copy = PolicyCopy::in_directory(&state);
    assert_eq!(load(&state).unwrap(), None);
    for (text, rules) in [(POLICY, 1), (HALF, 0), (POLICY, 1), (POLICY, 1)] {
        copy.save(text).unwrap();
        assert_eq!(load(&state).unwrap(), Some(rules));
    }
    let mode = copy.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        fs::read_dir(&state).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn a_save_of_the_same_text_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let copy = PolicyCopy::in_directory(dir.path());
    let saved_as = |text| {
        copy.save(text).unwrap();
        copy.path().metadata().unwrap().ino()
    };
    let first = saved_as(POLICY);
    // Another inode: it cannot get the number of a file that is still open.
    let _open = fs::File::open(copy.path()).unwrap();
    assert_eq!(saved_as(POLICY), first);
    assert_ne!(saved_as(HALF), first);
}

#[test]
fn the_largest_policy_is_loaded_and_no_larger_copy_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let copy = PolicyCopy::in_directory(dir.path());
    let padded = |length: u64| {
        let comment = "#".repeat(usize::try_from(length).unwrap() - POLICY.len());
        format!("{POLICY}{comment}")
    };
    copy.save(&padded(MAX_BYTES)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), Some(1));
    copy.save(&padded(MAX_BYTES + 1_000)).unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_used_is_no_copy_of_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = load(file.path()).unwrap_err().to_string();
    assert!(error.ends_with("cannot be used"), "{error}");
}

#[test]
fn a_temporary_file_of_a_crash_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let copy = PolicyCopy::in_directory(dir.path());
    let other = dir.path().join("other");
    fs::write(&other, "untouched").unwrap();
    symlink(&other, dir.path().join("policy.last-good.tmp")).unwrap();
    copy.save(POLICY).unwrap();
    assert_eq!(load(dir.path()).unwrap(), Some(1));
    assert_eq!(fs::read_to_string(other).unwrap(), "untouched");
}

#[test]
fn a_copy_that_lost_or_changed_anything_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let copy = PolicyCopy::in_directory(dir.path());
    copy.save(POLICY).unwrap();
    let good = fs::read(copy.path()).unwrap();
    for end in 0..good.len() {
        fs::write(copy.path(), &good[..end]).unwrap();
        assert!(load(dir.path()).is_err(), "{end} bytes");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(copy.path(), bad).unwrap();
        assert!(load(dir.path()).is_err(), "byte {at}");
    }
    check(|path| fs::write(path, [0xff; 9]).unwrap(), "is damaged", false);
    check(|path| fs::write(path, POLICY).unwrap(), "is damaged", false);
}

#[test]
fn a_file_that_is_not_the_agents_alone_is_not_used() {
    for mode in [0o640, 0o604, 0o620, 0o602] {
        let permissions = fs::Permissions::from_mode(mode);
        check(
            |path| fs::set_permissions(path, permissions.clone()).unwrap(),
            "is not used",
            false,
        );
    }
    let elsewhere = |path: &Path| path.with_file_name("elsewhere");
    check(
        |path| {
            fs::rename(path, elsewhere(path)).unwrap();
            symlink(elsewhere(path), path).unwrap();
        },
        "is not used",
        false,
    );
    check(
        |path| fs::hard_link(path, elsewhere(path)).unwrap(),
        "is not used",
        false,
    );
    check(
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        "is not used",
        true,
    );
    // A FIFO that is the agent's own.
    check(
        |path| {
            fs::remove_file(path).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        },
        "is not used",
        false,
    );
}

#[test]
fn a_copy_of_a_newer_version_is_neither_used_nor_replaced() {
    check(
        |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replace("policy copy 1 ", "policy copy 2 ")).unwrap();
        },
        "was written by a newer version",
        true,
    );
}
