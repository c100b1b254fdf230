//! The releases of ocserv that the product is tested with.

use std::fmt;
use std::process::Command;

use anyhow::Context;

use crate::setup;

/// The name of all releases together.
const ALL: &str = "all";

/// The releases of Debian 12, of Debian 13, and of unstable. When unstable has a newer one, the run
/// fails, and the version must be changed here and in the documentation.
const RELEASES: [Release; 3] = [
    Release {
        version: Some("1.1.6"),
        suite: None,
    },
    Release {
        version: Some("1.3.0"),
        suite: Some("trixie"),
    },
    Release {
        version: Some("1.5.0"),
        suite: Some("sid"),
    },
];

/// An ocserv to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    /// The version that it must have; `None` takes any.
    pub(super) version: Option<&'static str>,
    /// The Debian suite that has its package; `None` takes the one that is installed on this
    /// machine.
    pub(super) suite: Option<&'static str>,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "ocserv {version}"),
            None => write!(f, "ocserv of this machine"),
        }
    }
}

/// Returns the values of `--ocserv`: the versions, and `all`.
pub fn names() -> Vec<&'static str> {
    let versions = RELEASES.iter().filter_map(|release| release.version);
    versions.chain([ALL]).collect()
}

/// Returns the releases that one of the [`names`] selects; without a name, the installed one.
pub(super) fn selected(name: Option<&str>) -> Vec<Release> {
    let Some(name) = name else {
        return vec![Release {
            version: None,
            suite: None,
        }];
    };
    let mut releases = RELEASES.to_vec();
    releases.retain(|release| name == ALL || release.version == Some(name));
    releases
}

/// Returns the version of the installed ocserv.
pub(super) fn installed() -> anyhow::Result<String> {
    let program = setup::find("ocserv").context("ocserv is not installed")?;
    version_of(&mut Command::new(program))
}

/// Returns the version of the ocserv that a command runs.
pub(super) fn version_of(ocserv: &mut Command) -> anyhow::Result<String> {
    let output = ocserv
        .arg("--version")
        .output()
        .context("could not start ocserv")?;
    // Some releases print it to standard error.
    let text = [output.stdout, output.stderr].concat();
    version(&String::from_utf8_lossy(&text))
}

/// Reads the version from the output of `ocserv --version`.
fn version(text: &str) -> anyhow::Result<String> {
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let found = text.split_whitespace().find(is_version);
    found
        .map(str::to_owned)
        .with_context(|| format!("`ocserv --version` printed no version: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_selects_one_release_or_all_of_them() {
        assert_eq!(selected(Some("1.3.0")), [RELEASES[1]]);
        assert_eq!(selected(Some("all")), RELEASES);
        assert_eq!(selected(None).len(), 1);
        assert_eq!(names(), ["1.1.6", "1.3.0", "1.5.0", "all"]);
    }

    #[test]
    fn the_version_is_read_from_the_first_line() {
        let text = "OpenConnect VPN Server 1.3.0\n\nCompiled with: seccomp\nGnuTLS version: 3.8.9\n";
        assert_eq!(version(text).unwrap(), "1.3.0");
        assert!(version("OpenConnect VPN Server").is_err());
    }
}
