//! The client side of `ocserv-agent decisions`: asks the running agent over the IPC socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use ipc::client::ClientError;
use ocserv_agent_model::DenyCode;

/// Longest time for the agent's response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the decisions cannot be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The agent did not answer.
    #[error("{0}")]
    NoAnswer(ClientError),
    /// The permissions of the socket refuse this user of the system.
    #[error("permission denied: run this as root")]
    NoPermission,
    /// The agent refuses requests of this user of the system.
    #[error("requests of this user are refused: run this as root, or as a user in ipc.allowed_uids")]
    NotAllowed,
    /// The agent refused the request.
    #[error("request refused: {0}")]
    Refused(String),
}

impl From<ClientError> for ListError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotReachable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::NoPermission
            }
            other => Self::NoAnswer(other),
        }
    }
}

/// Asks the agent at `socket` for its last decisions: all, or those of `user`.
///
/// # Errors
/// When the agent does not answer within 5 s, or refuses this user of the system.
pub fn ask(socket: &Path, user: Option<&str>) -> Result<String, ListError> {
    let request = ipc::Request {
        reason: "decisions".to_owned(),
        username: user.unwrap_or_default().to_owned(),
        ..ipc::Request::default()
    };
    let response = ipc::client::send_request(socket, RESPONSE_TIMEOUT, &request)?;
    if response.deny_code.as_deref() == Some(DenyCode::PeerRefused.as_str()) {
        return Err(ListError::NotAllowed);
    }
    response
        .message
        .ok_or_else(|| ListError::Refused(response.error.unwrap_or_else(|| "no reason given".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_user_is_shown_what_to_do() {
        let denied = |kind| ListError::from(ClientError::NotReachable(io::Error::from(kind))).to_string();
        assert_eq!(
            denied(io::ErrorKind::PermissionDenied),
            "permission denied: run this as root"
        );
        assert!(!denied(io::ErrorKind::NotFound).contains("root"));
    }
}
