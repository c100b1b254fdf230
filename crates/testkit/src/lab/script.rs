//! The connect-script of a lab's ocserv.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::LabError;
use super::requirements::own_program;

/// The path at which the wrapper expects the helper.
const INSTALLED: &str = "/usr/bin/vpn-auth";

/// The script that ocserv runs on connect and disconnect.
#[derive(Debug, Clone, Default)]
pub enum Script {
    /// No script: ocserv alone decides.
    #[default]
    None,
    /// The wrapper of `deploy/connect-script`, with the lab's socket and these settings.
    Deployed {
        /// The verdict while the agent is down.
        on_agent_down: OnAgentDown,
        /// The helper's deadline.
        deadline: Duration,
    },
    /// A script of the test, with its `#!` line; `@DIR@` is replaced by the lab's directory.
    Text(String),
}

impl Script {
    /// Returns the deployed wrapper with its defaults.
    #[must_use]
    pub fn deployed() -> Self {
        Self::Deployed {
            on_agent_down: OnAgentDown::Deny,
            deadline: Duration::from_secs(4),
        }
    }
}

/// The helper's verdict while the agent is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAgentDown {
    /// Denies the login.
    Deny,
    /// Allows the login.
    Allow,
}

/// Writes the script to the lab's directory.
pub(crate) fn install(script: &Script, directory: &Path, socket: &Path) -> Result<Option<PathBuf>, LabError> {
    let text = match script {
        Script::None => return Ok(None),
        Script::Text(text) => text.replace("@DIR@", &directory.to_string_lossy()),
        Script::Deployed {
            on_agent_down,
            deadline,
        } => deployed(socket, *on_agent_down, *deadline)?,
    };
    let path = directory.join("connect-script");
    executable(&path, &text)?;
    Ok(Some(path))
}

/// Writes an executable file.
pub(crate) fn executable(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(LabError::io(format!("write {}", path.display())))
}

/// Returns the wrapper as operators get it, with the settings at its head replaced.
fn deployed(socket: &Path, on_agent_down: OnAgentDown, deadline: Duration) -> Result<String, LabError> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/connect-script");
    let text = fs::read_to_string(&source).map_err(LabError::io("read deploy/connect-script"))?;
    let helper = own_program("vpn-auth")?;
    let down = match on_agent_down {
        OnAgentDown::Deny => "deny",
        OnAgentDown::Allow => "allow",
    };
    let settings = [
        ("SOCKET", socket.to_string_lossy().into_owned()),
        ("DEADLINE", format!("{}ms", deadline.as_millis())),
        ("ON_AGENT_DOWN", down.to_owned()),
    ];
    if !text.contains(INSTALLED) {
        return Err(LabError::Config(format!(
            "deploy/connect-script does not run {INSTALLED}"
        )));
    }
    let text = text.replace(INSTALLED, &format!("'{}'", helper.display()));
    settings
        .iter()
        .try_fold(text, |text, (name, value)| set(&text, name, value))
}

/// Replaces the line `NAME=…`.
fn set(text: &str, name: &str, value: &str) -> Result<String, LabError> {
    let start = format!("{name}=");
    let mut found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with(&start) {
                found = true;
                format!("{start}'{value}'")
            } else {
                line.to_owned()
            }
        })
        .collect();
    if found {
        Ok(format!("{}\n", lines.join("\n")))
    } else {
        Err(LabError::Config(format!(
            "deploy/connect-script has no line {start}…"
        )))
    }
}
