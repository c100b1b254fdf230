//! The last decisions, for an operator to see: asked over the IPC socket, shown as a table.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authz::DecisionRecord;
use ipc::client::ClientError;
use ocserv_agent_model::{DenyCode, GroupName, Username, one_line};

/// How long the agent may take to show them.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest table, in bytes: well below what fits into one answer.
const LONGEST: usize = 512 << 10;
/// The longest reason in it, in characters.
const MAX_REASON: usize = 120;

/// Why the decisions cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShowError {
    /// The agent did not answer.
    #[error("{0}")]
    NoAnswer(ClientError),
    /// The file system does not let this user of the system near the socket.
    #[error("permission denied: run this as root")]
    NoPermission,
    /// The agent does not listen to this user of the system.
    #[error("it does not listen to this user: run this as root, or as a user in ipc.allowed_uids")]
    NotAllowed,
    /// The agent refused.
    #[error("it refused: {0}")]
    Refused(String),
}

impl From<ClientError> for ShowError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotReachable(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                Self::NoPermission
            }
            other => Self::NoAnswer(other),
        }
    }
}

/// Asks the agent behind `socket` for its last decisions, about `user` or all of them.
///
/// # Errors
/// When it does not answer within 5 s, or does not listen to this user of the system.
pub fn ask(socket: &Path, user: Option<&str>) -> Result<String, ShowError> {
    let request = ipc::Request {
        reason: "decisions".to_owned(),
        username: user.unwrap_or_default().to_owned(),
        ..ipc::Request::default()
    };
    let response = ipc::client::send_request(socket, WITHIN, &request)?;
    if response.deny_code.as_deref() == Some(DenyCode::PeerRefused.as_str()) {
        return Err(ShowError::NotAllowed);
    }
    response
        .message
        .ok_or_else(|| ShowError::Refused(response.error.unwrap_or_else(|| "it does not say why".to_owned())))
}

/// One line for each decision, under a heading; the last decision first. A sentence where there is none.
pub(crate) fn table(records: &[Arc<DecisionRecord>], user: Option<&Username>) -> String {
    let mut records = records
        .iter()
        .filter(|record| user.is_none_or(|user| record.username == *user))
        .peekable();
    if records.peek().is_none() {
        return match user {
            Some(user) => format!("no decision about {}\n", user.as_str()),
            None => "no decision yet\n".to_owned(),
        };
    }
    let mut text = format!(
        "{:<24} {:<20} {:<12} {:<24} {:<6} {:<10} {:>8} {:>8}  {}\n",
        "TIME", "USER", "GROUP", "FROM", "GOT", "BY", "AGE", "TOOK", "WHY"
    );
    for record in records {
        if text.len() > LONGEST {
            text.push_str("older ones are left out: name a user to see hers\n");
            break;
        }
        line(&mut text, record);
    }
    text
}

fn line(text: &mut String, record: &DecisionRecord) {
    let why: Vec<&str> = [record.outage.as_deref().unwrap_or_default(), &record.reason]
        .into_iter()
        .filter(|why| !why.is_empty())
        .collect();
    let why = one_line(&why.join("; "), MAX_REASON);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:<24} {:<20} {:<12} {:<24} {:<6} {:<10} {:>7}s {:>6}ms  {why}",
        humantime::format_rfc3339_millis(record.at),
        record.username.as_str(),
        record.group.as_ref().map_or("-", GroupName::as_str),
        record.client_ip,
        if record.allowed() { "in" } else { "denied" },
        record.source.as_str(),
        record.age.as_secs(),
        record.duration.as_millis(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_ask_hears_what_to_do_about_it() {
        let denied = |kind| ShowError::from(ClientError::NotReachable(io::Error::from(kind))).to_string();
        assert_eq!(
            denied(io::ErrorKind::PermissionDenied),
            "permission denied: run this as root"
        );
        assert!(!denied(io::ErrorKind::NotFound).contains("root"));
    }
}
