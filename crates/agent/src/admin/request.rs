//! Sends a request of an operator to the running agent's IPC socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use ipc::client::ClientError;
use ocserv_agent_model::DenyCode;

/// Longest time for the agent's response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The agent sent no response.
    #[error("{0}")]
    NoResponse(ClientError),
    /// The permissions of the socket deny access.
    #[error("permission denied: run this as root")]
    NoPermission,
    /// The agent rejected the peer's uid.
    #[error("this user is not in ipc.allowed_uids: run this as root, or as a user in ipc.allowed_uids")]
    NotAllowed,
    /// The agent rejected the request.
    #[error("request rejected: {0}")]
    Rejected(String),
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotReachable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::NoPermission
            }
            other => Self::NoResponse(other),
        }
    }
}

/// Sends a request to the agent at `socket`; returns the text of its answer.
///
/// # Errors
/// When the agent does not respond within 5 s, or rejects the peer or the request.
pub(super) fn fetch(socket: &Path, request: &ipc::Request) -> Result<String, FetchError> {
    let response = ipc::client::send_request(socket, RESPONSE_TIMEOUT, request)?;
    if response.deny_code.as_deref() == Some(DenyCode::PeerRefused.as_str()) {
        return Err(FetchError::NotAllowed);
    }
    let reason = response.error.unwrap_or_else(|| "no reason given".to_owned());
    response.message.ok_or(FetchError::Rejected(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_connection_suggests_root() {
        let denied = |kind| FetchError::from(ClientError::NotReachable(io::Error::from(kind))).to_string();
        assert_eq!(
            denied(io::ErrorKind::PermissionDenied),
            "permission denied: run this as root"
        );
        assert!(!denied(io::ErrorKind::NotFound).contains("root"));
    }
}
