//! Client side of `ocserv-agent decisions`.

use std::path::Path;

use super::request::{self, FetchError};

/// Fetches the table of the last decisions, of `user` or all, from the agent at `socket`.
///
/// # Errors
/// When the agent does not respond within 5 s, or rejects the peer or the request.
pub fn fetch(socket: &Path, user: Option<&str>) -> Result<String, FetchError> {
    let request = ipc::Request {
        reason: "decisions".to_owned(),
        username: user.unwrap_or_default().to_owned(),
        ..ipc::Request::default()
    };
    request::fetch(socket, &request)
}
