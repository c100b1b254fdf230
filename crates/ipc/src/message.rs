//! The two messages, JSON objects.
//!
//! Compatibility: unknown keys are ignored; keys that were added later are optional and omitted
//! when absent, so a peer that knows only the first seven keys of the request and three of the
//! response works unchanged.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::frame::{FrameError, encode_frame};

/// The value of [`Request::version`] that the helper sends.
pub const PROTOCOL_VERSION: u32 = 1;

/// A request or report of the helper for one session. Text fields are ocserv's, unchecked: the
/// agent's conversion to its own types is the validation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Request {
    /// `connect`, `disconnect` or `host-update`.
    pub reason: String,
    /// The username.
    pub username: String,
    /// The user's group; empty for none.
    #[serde(default)]
    pub groupname: String,
    /// The client's public address.
    #[serde(default)]
    pub ip_real: String,
    /// The client's address in the VPN: IPv4, or IPv6 if it has no IPv4; empty for none.
    #[serde(default)]
    pub ip_remote: String,
    /// The tunnel device; its name is reused by the next session.
    #[serde(default)]
    pub device: String,
    /// ocserv's `ID`: the worker's pid in decimal. Pids are reused: never a key by itself.
    #[serde(default)]
    pub session_id: String,
    /// Version of the protocol: [`PROTOCOL_VERSION`]; absent from a peer that sends only the seven
    /// keys above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Time left until the helper's deadline, in milliseconds; set by
    /// [`crate::client::send_request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The helper's deadline: milliseconds of `CLOCK_BOOTTIME`, which the peers share, so that the
    /// time that the request waited to be read counts. It can only shorten `deadline_ms`. Set by
    /// [`crate::client::send_request`] where that clock exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_by_boottime_ms: Option<u64>,
    /// ocserv's virtual host; `default` for the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The client's hostname. Untrusted: the client sends what it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The client's user agent. Untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The client's type of device. Untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    /// The client's operating system. Untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_platform: Option<String>,
    /// The server's IPv4 address in the VPN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_local: Option<String>,
    /// The server's public address that the client connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_real_local: Option<String>,
    /// The server's IPv6 address in the VPN, without a scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_local: Option<String>,
    /// The client's IPv6 address in the VPN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_remote: Option<String>,
    /// On disconnect: bytes sent by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// On disconnect: bytes sent to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// On disconnect: seconds since the client's TCP connection was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// In a request of an operator about one event: its ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// The agent's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Whether the login is allowed. Required, a JSON boolean.
    pub allowed: bool,
    /// Reason of a deny, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A note for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Source of the decision: `portal`, `cache`, `stale`, `fail_open`, `fail_close`, `embedded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Reason of a deny as a keyword.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_code: Option<String>,
}

/// Why bytes are not a message, or a message cannot be encoded.
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
    /// The body is not this message: malformed, or a key is missing, of the wrong type or given
    /// twice.
    #[error("bad JSON ({0})")]
    Json(#[from] serde_json::Error),
}

impl Request {
    /// Encodes the request as a frame.
    ///
    /// # Errors
    /// [`MessageError::Frame`] when the body is longer than [`crate::MAX_FRAME`].
    pub fn to_frame(&self) -> Result<Vec<u8>, MessageError> {
        to_frame(self)
    }

    /// Parses the body of a frame.
    ///
    /// # Errors
    /// [`MessageError`] unless it is one JSON object in UTF-8 with `reason` and `username`, correct
    /// types and no known key twice.
    pub fn from_json(body: &[u8]) -> Result<Self, MessageError> {
        from_json(body)
    }
}

impl Response {
    /// Creates an allow or deny without details.
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

    /// Encodes the response as a frame.
    ///
    /// # Errors
    /// [`MessageError::Frame`] when the body is longer than [`crate::MAX_FRAME`].
    pub fn to_frame(&self) -> Result<Vec<u8>, MessageError> {
        to_frame(self)
    }

    /// Parses the body of a frame.
    ///
    /// # Errors
    /// [`MessageError`] unless it is one JSON object in UTF-8 with a boolean `allowed`, correct
    /// types and no known key twice.
    pub fn from_json(body: &[u8]) -> Result<Self, MessageError> {
        from_json(body)
    }
}

fn to_frame(message: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    Ok(encode_frame(&serde_json::to_vec(message)?)?)
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    // Checked for the whole body: serde_json does not validate strings that it skips.
    let text = std::str::from_utf8(body).map_err(|_| MessageError::NotUtf8)?;
    // A derived Deserialize also accepts `[true,null,null,null,null]`; the contract has objects
    // only.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(MessageError::NotAnObject);
    }
    Ok(serde_json::from_str(text)?)
}
