//! The connect-script of a lab's ocserv.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::LabError;
use super::requirements::own_program;

/// Where the wrapper expects the helper.
const INSTALLED: &str = "/usr/bin/vpn-auth";

/// What ocserv runs when a client connects or disconnects.
#[derive(Debug, Clone, Default)]
pub enum Script {
    /// Nothing: ocserv decides alone.
    #[default]
    None,
    /// The wrapper of `deploy/connect-script`, with the lab's socket and these settings.
    Deployed {
        /// Whether a client comes in when the agent is not there.
        on_agent_down: OnAgentDown,
        /// The helper's time for everything.
        deadline: Duration,
    },
    /// A text of the test's own, with its `#!` line; `@DIR@` stands for the lab's directory.
    Text(String),
}

impl Script {
    /// The deployed wrapper with its defaults.
    #[must_use]
    pub fn deployed() -> Self {
        Self::Deployed {
            on_agent_down: OnAgentDown::Deny,
            deadline: Duration::from_secs(4),
        }
    }
}

/// What the helper says when the agent is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAgentDown {
    /// Keeps the client out.
    Deny,
    /// Lets the client in.
    Allow,
}

/// Puts the script into the lab's directory.
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

/// Writes a file that root may run.
pub(crate) fn executable(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(LabError::io(format!("write {}", path.display())))
}

/// The wrapper as operators get it, with the settings at its head replaced.
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
