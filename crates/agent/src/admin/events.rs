//! Client side of `ocserv-agent events`.

use std::path::Path;

use super::request::{self, FetchError};

/// Fetches the table of the events that wait for the portal, of `user` or all, from the agent at
/// `socket`.
///
/// # Errors
/// When the agent does not respond within 5 s, or rejects the peer or the request.
pub fn list(socket: &Path, user: Option<&str>) -> Result<String, FetchError> {
    send(socket, "events", user, None)
}

/// Fetches the table of the events that the portal rejected, of `user` or all.
///
/// # Errors
/// As for [`list`].
pub fn dead(socket: &Path, user: Option<&str>) -> Result<String, FetchError> {
    send(socket, "dead-letters", user, None)
}

/// Has events sent again that the portal rejected: the one with the ID `event_id`, or all.
///
/// # Errors
/// As for [`list`].
pub fn retry(socket: &Path, event_id: Option<&str>) -> Result<String, FetchError> {
    send(socket, "retry-dead-letters", None, event_id)
}

fn send(
    socket: &Path,
    reason: &str,
    user: Option<&str>,
    event_id: Option<&str>,
) -> Result<String, FetchError> {
    let request = ipc::Request {
        reason: reason.to_owned(),
        username: user.unwrap_or_default().to_owned(),
        event_id: event_id.map(str::to_owned),
        ..ipc::Request::default()
    };
    request::fetch(socket, &request)
}
