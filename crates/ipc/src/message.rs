//! The two messages, as JSON objects.
//!
//! Interoperation: unknown keys are ignored; the keys that were added later are optional and absent ones are left out,
//! so that a peer that knows only the seven keys of the request and the three of the response works unchanged.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{FrameError, encode_frame};

/// What our helper puts into [`Request::version`].
pub const PROTOCOL_VERSION: u32 = 1;

/// What the helper asks, or reports, for one session. Text fields are what ocserv gave, unchecked: the agent's
/// conversion to its own types is the check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Request {
    /// `connect`, `disconnect` or `host-update`.
    pub reason: String,
    /// Who logs in.
    pub username: String,
    /// The user's group; empty for none.
    #[serde(default)]
    pub groupname: String,
    /// The client's public address.
    #[serde(default)]
    pub ip_real: String,
    /// The client's address in the VPN: IPv4 if it has one, else IPv6; empty for none.
    #[serde(default)]
    pub ip_remote: String,
    /// The tunnel device; reused by the next session at once.
    #[serde(default)]
    pub device: String,
    /// ocserv's `ID`: the worker's pid as decimal text, reused, never a key by itself.
    #[serde(default)]
    pub session_id: String,
    /// The version of the messages that the helper speaks: [`PROTOCOL_VERSION`]. Absent: the seven keys above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Milliseconds that are left of the helper's budget when it sends this. [`crate::client::ask`] fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// ocserv's virtual host; `default` for the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The client's host name. The client says so: it proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The client's program. The client says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The kind of device. The client says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    /// The client's operating system. The client says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_platform: Option<String>,
    /// The server's end of the tunnel, IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_local: Option<String>,
    /// The server's public address that the client reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_real_local: Option<String>,
    /// The server's end of the tunnel, IPv6, without a scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_local: Option<String>,
    /// The client's IPv6 address in the VPN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_remote: Option<String>,
    /// On disconnect: bytes that the server received from the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// On disconnect: bytes that the server sent to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// On disconnect: seconds since the client's TCP connection was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Whether the client may come in. Must be there and must be a JSON boolean.
    pub allowed: bool,
    /// Why not, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A remark, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How the decision was made: `portal`, `cache`, `stale`, `fail_open`, `fail_close`, `embedded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why not, as a word that programs can tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_code: Option<String>,
}

/// Why bytes are not a message, or a message cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The message does not fit a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The body is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// The body is not a JSON object.
    #[error("something other than a JSON object")]
    NotAnObject,
    /// The body is not the JSON of this message: broken, a key missing, of the wrong type, or there twice.
    #[error("bad JSON ({0})")]
    Json(#[from] serde_json::Error),
}

impl Request {
    /// The request as a frame.
    ///
    /// # Errors
    /// [`MessageError::Frame`] when it is over [`crate::MAX_FRAME`].
    pub fn to_frame(&self) -> Result<Vec<u8>, MessageError> {
        to_frame(self)
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// Not UTF-8, not one JSON object, `reason` or `username` missing, a wrong type, one of the known keys twice.
    pub fn from_json(body: &[u8]) -> Result<Self, MessageError> {
        from_json(body)
    }
}

impl Response {
    /// A plain allow or deny with nothing else said.
    #[must_use]
    pub const fn new(allowed: bool) -> Self {
        Self {
            allowed,
            error: None,
            message: None,
            source: None,
            deny_code: None,
        }
    }

    /// The response as a frame.
    ///
    /// # Errors
    /// [`MessageError::Frame`] when it is over [`crate::MAX_FRAME`].
    pub fn to_frame(&self) -> Result<Vec<u8>, MessageError> {
        to_frame(self)
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// Not UTF-8, not one JSON object, `allowed` missing or not a boolean, a wrong type, one of the known keys twice.
    pub fn from_json(body: &[u8]) -> Result<Self, MessageError> {
        from_json(body)
    }
}

fn to_frame(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    Ok(encode_frame(&serde_json::to_vec(message)?)?)
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    // Checked here for the whole body: serde_json does not look into the strings that it skips.
    let text = std::str::from_utf8(body).map_err(|_| MessageError::NotUtf8)?;
    // A derived Deserialize also takes `[true,null,null,null,null]`; the contract knows objects only.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(MessageError::NotAnObject);
    }
    Ok(serde_json::from_str(text)?)
}
