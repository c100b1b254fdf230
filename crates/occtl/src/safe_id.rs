//! The identity of a login.

use std::fmt;

/// The identity of a login: what `occtl` calls "Full session". It stays the same over all reconnects of one login, while
/// the ID changes with each.
///
/// A one-way hash of the cookie in base64, 28 characters. It opens no session, but whoever may talk to the control socket
/// can end the login by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeId(String);

/// Characters in a [`SafeId`]: base64 of a SHA-1.
const LENGTH: usize = 28;

/// What ocserv sends for a connection that has no login yet: the hash of a cookie of zeros.
const NOBODY: &str = "3oqEe/+MND1puFOiFebud17y75Y=";

/// The text is not a [`SafeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 28 characters of base64, or the id of no login")]
pub struct SafeIdError;

impl SafeId {
    /// Reads an id as `occtl` prints it.
    ///
    /// # Errors
    /// Anything but 28 characters of base64, and the id that stands for no login at all.
    pub fn parse(text: &str) -> Result<Self, SafeIdError> {
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        if text.len() != LENGTH || !text.bytes().all(base64) || text == NOBODY {
            return Err(SafeIdError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The 28 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads an id from a list, where a NUL follows it.
    pub(crate) fn from_wire(bytes: Option<&[u8]>) -> Option<Self> {
        let bytes = bytes?;
        let text = str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes)).ok()?;
        Self::parse(text).ok()
    }
}

impl fmt::Display for SafeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
