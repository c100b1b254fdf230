//! Builds the request from ocserv's variables. Pure: the lookup is a parameter.
//!
//! Reads only the variables named here. ocserv's scripts also get every route of the session (up to
//! 128 KiB in one variable) and the whole environment that ocserv was started with.

use std::{ffi::OsString, fmt};

use ipc::{PROTOCOL_VERSION, Request};

/// The largest value, in bytes. A longer one is an error in a variable that decides, and truncated
/// elsewhere.
const MAX_VALUE: usize = 1024;

/// Why the environment is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// Not set, or empty.
    Missing(&'static str),
    /// Not UTF-8.
    NotUtf8(&'static str),
    /// Longer than [`MAX_VALUE`].
    TooLong(&'static str),
    /// `REASON` is not `connect`, `disconnect` or `host-update`.
    UnknownReason,
}

impl fmt::Display for EnvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "{name} is not set"),
            Self::NotUtf8(name) => write!(f, "{name} is not UTF-8"),
            Self::TooLong(name) => write!(f, "{name} is longer than {MAX_VALUE} bytes"),
            Self::UnknownReason => f.write_str("REASON is not connect, disconnect or host-update"),
        }
    }
}

/// Builds the request from the variables that ocserv sets for its scripts.
///
/// The variables that decide a login (`REASON`, `USERNAME`, `ID`, `GROUPNAME`, `IP_REAL`) are taken
/// exactly or are an error. The rest is descriptive: converted lossily, truncated to [`MAX_VALUE`],
/// and omitted where empty.
pub(crate) fn request_from(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Request, EnvError> {
    let exact = |name: &'static str| -> Result<String, EnvError> {
        let value = lookup(name).unwrap_or_default();
        if value.len() > MAX_VALUE {
            return Err(EnvError::TooLong(name));
        }
        value.into_string().map_err(|_| EnvError::NotUtf8(name))
    };
    let required = |name: &'static str| match exact(name) {
        Ok(value) if value.is_empty() => Err(EnvError::Missing(name)),
        other => other,
    };
    let descriptive = |name: &str| {
        lookup(name)
            .map(|value| truncated(&value))
            .filter(|value| !value.is_empty())
    };

    let reason = required("REASON")?;
    if !matches!(reason.as_str(), "connect" | "disconnect" | "host-update") {
        return Err(EnvError::UnknownReason);
    }
    // An absent or malformed number is unknown, never zero.
    let ended = reason == "disconnect";
    let number = |name: &str| {
        if ended {
            descriptive(name)?.parse::<u64>().ok()
        } else {
            None
        }
    };
    let ipv6_remote = descriptive("IPV6_REMOTE");
    Ok(Request {
        username: required("USERNAME")?,
        session_id: required("ID")?,
        groupname: exact("GROUPNAME")?,
        ip_real: exact("IP_REAL")?,
        // A client with only IPv6 in the VPN has no IP_REMOTE.
        ip_remote: descriptive("IP_REMOTE")
            .or_else(|| ipv6_remote.clone())
            .unwrap_or_default(),
        device: descriptive("DEVICE").unwrap_or_default(),
        version: Some(PROTOCOL_VERSION),
        deadline_ms: None,
        answer_by_boottime_ms: None,
        vhost: descriptive("VHOST"),
        // ocserv sets HOSTNAME to the same, but without a client's name that is the server's own.
        hostname: descriptive("REMOTE_HOSTNAME"),
        user_agent: descriptive("USER_AGENT"),
        device_type: descriptive("DEVICE_TYPE"),
        device_platform: descriptive("DEVICE_PLATFORM"),
        ip_local: descriptive("IP_LOCAL"),
        ip_real_local: descriptive("IP_REAL_LOCAL"),
        // ocserv appends an uninitialised scope: `fd88::1%4095080704`.
        ipv6_local: descriptive("IPV6_LOCAL").and_then(|address| without_scope(&address)),
        ipv6_remote,
        bytes_in: number("STATS_BYTES_IN"),
        bytes_out: number("STATS_BYTES_OUT"),
        duration_seconds: number("STATS_DURATION"),
        reason,
        event_id: None,
    })
}

fn without_scope(address: &str) -> Option<String> {
    let address = address.split('%').next().unwrap_or_default();
    (!address.is_empty()).then(|| address.to_owned())
}

/// Converts to text of at most [`MAX_VALUE`] bytes; what is not UTF-8 becomes U+FFFD.
fn truncated(value: &OsString) -> String {
    let bytes = value.as_encoded_bytes();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE)]).into_owned();
    text.truncate(text.floor_char_boundary(MAX_VALUE));
    text
}

#[cfg(test)]
mod tests;
