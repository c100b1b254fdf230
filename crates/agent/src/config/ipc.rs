//! `[ipc]`: the socket on which `vpn-auth` sends its requests.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checker::Checker;
use super::period::Period;

/// Kept of a login's budget for the way of the answer back to the helper.
pub(crate) const RESPONSE_MARGIN: Duration = Duration::from_millis(100);

/// The IPC socket and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipc {
    /// The socket's path; at most 107 bytes.
    pub socket: PathBuf,
    /// The socket's permission bits.
    pub socket_mode: SocketMode,
    /// Longest time from a login's connection to its answer.
    pub deadline: Period,
    /// The `--deadline` that the connect-script passes to `vpn-auth`. Used by the checks alone: the
    /// script sets it.
    pub helper_deadline: Period,
    /// The users of the system whose requests are served, whatever the socket's mode.
    pub allowed_uids: Vec<u32>,
    /// Logins that may wait for their answer at once; further ones are denied as `overloaded`.
    pub max_connections: usize,
}

impl Default for Ipc {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/ocserv-agent/ipc.sock"),
            socket_mode: SocketMode(0o600),
            deadline: Period::seconds(3),
            helper_deadline: Period::seconds(4),
            allowed_uids: vec![0],
            max_connections: 1024,
        }
    }
}

impl Ipc {
    pub(super) fn check(&self, checker: &mut Checker) {
        checker.absolute("ipc.socket", &self.socket);
        if self.socket.as_os_str().as_encoded_bytes().ends_with(b"/") {
            let what = format!("\"{}\" names a directory", self.socket.display());
            checker.problem("ipc.socket", what);
        }
        // sun_path holds 108 bytes with its NUL (man 7 unix).
        let bytes = self.socket.as_os_str().len();
        if bytes > 107 {
            checker.problem(
                "ipc.socket",
                format!("has {bytes} bytes, a socket's path may have at most 107"),
            );
        }
        checker.period("ipc.deadline", self.deadline, Duration::from_mins(1));
        checker.period(
            "ipc.helper_deadline",
            self.helper_deadline,
            Duration::from_mins(2),
        );
        if self.allowed_uids.is_empty() {
            checker.problem(
                "ipc.allowed_uids",
                "is empty: nobody could ask, and every login would be denied".to_owned(),
            );
        }
        checker.count("ipc.max_connections", self.max_connections, 1..=65_536);
    }
}

/// The permission bits of a file, written as octal digits in a text: `"0600"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = SocketMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("octal digits in quotes such as \"0600\" or \"0660\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketMode, E> {
                let digits =
                    (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if digits && mode & 0o600 == 0o600 && mode & !0o666 == 0 => Ok(SocketMode(mode)),
                    _ => Err(E::custom(format!(
                        "\"{text}\" is no mode for a socket, expected {}",
                        &self as &dyn de::Expected
                    ))),
                }
            }
        }
        deserializer.deserialize_str(Digits)
    }
}
