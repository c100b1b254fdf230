//! From ocserv's variables to the request. Pure: the lookup is a parameter.
//!
//! Only the variables named here are read. ocserv's scripts also get every route of the session (one variable may hold
//! 128 KiB) and the whole environment that ocserv was started with; neither is ours.

use std::{ffi::OsString, fmt};

use ipc::{PROTOCOL_VERSION, Request};

/// Bytes that a value may have. What decides may not be longer; what only describes is cut.
const MAX_VALUE: usize = 1024;

/// What is wrong with the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// Not set, or empty.
    Missing(&'static str),
    /// Not UTF-8, and nothing that may be guessed.
    NotUtf8(&'static str),
    /// Longer than anything that ocserv gives.
    TooLong(&'static str),
    /// `REASON` is none of the three.
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
/// What decides a login (`REASON`, `USERNAME`, `ID`, `GROUPNAME`, `IP_REAL`) is taken exactly or refused. The rest
/// describes: it is converted as well as it goes, cut to [`MAX_VALUE`], and left out where it is empty.
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
    let described = |name: &str| {
        lookup(name)
            .map(|value| cut(&value))
            .filter(|value| !value.is_empty())
    };

    let reason = required("REASON")?;
    if !matches!(reason.as_str(), "connect" | "disconnect" | "host-update") {
        return Err(EnvError::UnknownReason);
    }
    // Absent or not a number is unknown, which is not zero.
    let ended = reason == "disconnect";
    let number = |name: &str| {
        if ended {
            described(name)?.parse::<u64>().ok()
        } else {
            None
        }
    };
    let ipv6_remote = described("IPV6_REMOTE");
    Ok(Request {
        username: required("USERNAME")?,
        session_id: required("ID")?,
        groupname: exact("GROUPNAME")?,
        ip_real: exact("IP_REAL")?,
        // A client that has only IPv6 in the VPN has no IP_REMOTE.
        ip_remote: described("IP_REMOTE")
            .or_else(|| ipv6_remote.clone())
            .unwrap_or_default(),
        device: described("DEVICE").unwrap_or_default(),
        version: Some(PROTOCOL_VERSION),
        deadline_ms: None,
        vhost: described("VHOST"),
        // ocserv sets both to the same; HOSTNAME alone may be the server's own.
        hostname: described("REMOTE_HOSTNAME"),
        user_agent: described("USER_AGENT"),
        device_type: described("DEVICE_TYPE"),
        device_platform: described("DEVICE_PLATFORM"),
        ip_local: described("IP_LOCAL"),
        ip_real_local: described("IP_REAL_LOCAL"),
        // ocserv hangs an uninitialised scope on it: `fd88::1%4095080704`.
        ipv6_local: described("IPV6_LOCAL").and_then(|address| without_scope(&address)),
        ipv6_remote,
        bytes_in: number("STATS_BYTES_IN"),
        bytes_out: number("STATS_BYTES_OUT"),
        duration_seconds: number("STATS_DURATION"),
        reason,
    })
}

fn without_scope(address: &str) -> Option<String> {
    let address = address.split('%').next().unwrap_or_default();
    (!address.is_empty()).then(|| address.to_owned())
}

/// As text of at most [`MAX_VALUE`] bytes; what is not UTF-8 becomes U+FFFD.
fn cut(value: &OsString) -> String {
    let bytes = value.as_encoded_bytes();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE)]).into_owned();
    text.truncate(text.floor_char_boundary(MAX_VALUE));
    text
}

#[cfg(test)]
mod tests;
