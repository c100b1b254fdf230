//! The version of ocserv, which its control socket does not tell.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Longest time that the program may take to print its version.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Where packages install ocserv.
const PACKAGED: &str = "/usr/sbin/ocserv";
/// Longest version, in characters.
const MAX_VERSION: usize = 32;

/// The version of the ocserv that was asked last; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct VersionCache(Arc<Mutex<Option<Determined>>>);

/// The version of the process with this ID, where it can be determined.
type Determined = (u32, Option<Arc<str>>);

impl VersionCache {
    /// Returns the version of the program of the process `main_pid`; `None` where it cannot be
    /// determined. The program is run once for each process.
    pub(crate) async fn of(&self, main_pid: u32) -> Option<Arc<str>> {
        if let Some((pid, version)) = self.cached()
            && pid == main_pid
        {
            return version;
        }
        let version = printed_version(main_pid).await;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((main_pid, version.clone()));
        version
    }

    fn cached(&self) -> Option<Determined> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn printed_version(main_pid: u32) -> Option<Arc<str>> {
    let program = program_of(main_pid).await?;
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(TIMEOUT, output).await.ok()?.ok()?;
    // ocserv prints it to standard error.
    let texts = [output.stderr, output.stdout];
    let mut texts = texts.iter().map(|bytes| String::from_utf8_lossy(bytes));
    texts.find_map(|text| version_in(&text).map(Arc::from))
}

/// Returns the program of the process, if it is an ocserv. Its path may be hidden from an agent
/// with few capabilities; then it is taken to be where packages install it.
async fn program_of(pid: u32) -> Option<PathBuf> {
    let name = tokio::fs::read_to_string(format!("/proc/{pid}/comm"))
        .await
        .ok()?;
    if !name.starts_with("ocserv") {
        return None;
    }
    match tokio::fs::read_link(format!("/proc/{pid}/exe")).await {
        Ok(program) => (program.file_name()? == "ocserv").then_some(program),
        Err(_) => Some(PathBuf::from(PACKAGED)),
    }
}

/// Finds the version in what `ocserv --version` prints: `ocserv 1.1.6`, and further lines.
fn version_in(text: &str) -> Option<&str> {
    let words = text.lines().next()?.split_whitespace();
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.len() <= MAX_VERSION
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+~_".contains(c))
    };
    words.skip(1).find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_number_after_the_name() {
        assert_eq!(
            version_in("ocserv 1.1.6\n\nCompiled with: seccomp 9"),
            Some("1.1.6")
        );
        assert_eq!(
            version_in("OpenConnect VPN Server 1.5.0-rc1\n"),
            Some("1.5.0-rc1")
        );
        for text in ["", "ocserv\n1.2", "ocserv \u{1b}1", "1.1.6"] {
            assert_eq!(version_in(text), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn no_other_program_is_run() {
        assert_eq!(program_of(std::process::id()).await, None);
        assert_eq!(VersionCache::default().of(std::process::id()).await, None);
    }
}
