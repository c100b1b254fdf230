//! The identity of a login.

use std::fmt;

/// The identity of a login, which `occtl` prints as "Full session". It stays the same for all
/// reconnects of one login, while the ID changes with each.
///
/// A one-way hash of the cookie in base64, 28 characters. It opens no session; on the control
/// socket it ends the login.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeId(String);

/// Length of a [`SafeId`], in characters.
const LENGTH: usize = 28;

/// The id of a connection that has no login yet: the hash of a cookie of zeros.
const NO_LOGIN: &str = "3oqEe/+MND1puFOiFebud17y75Y=";

/// The text is not a [`SafeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 28 characters of base64, or the id of no login")]
pub struct SafeIdError;

impl SafeId {
    /// Parses an id as `occtl` prints it.
    ///
    /// # Errors
    /// [`SafeIdError`] for anything but 28 characters of base64, and for the id that stands for no
    /// login.
    pub fn parse(text: &str) -> Result<Self, SafeIdError> {
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        if text.len() != LENGTH || !text.bytes().all(base64) || text == NO_LOGIN {
            return Err(SafeIdError);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the 28 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses an id from a list, where a NUL follows it.
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
