//! Names from clients and portals.

use std::fmt;
use std::sync::Arc;

use crate::text::breaks_line;

/// Longest name of a user or group in ocserv, in bytes (`MAX_USERNAME_SIZE` 64 with its NUL,
/// ocserv's vpn.h).
const MAX_NAME_LEN: usize = 63;
/// Longest DNS name, in bytes, and so longest name of a virtual host.
const MAX_HOST_LEN: usize = 253;

/// Why a text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It is longer than such a name can be.
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The maximum.
        max: usize,
    },
    /// It contains a slash: it would name a file in another directory.
    Slash,
    /// It is `.` or `..`: it would name a directory.
    Dots,
    /// It starts with `-`: a program would read it as an option.
    Option,
    /// It starts or ends with white space, which ocserv's own tools cannot address.
    Space,
    /// It contains a control character or a line separator: it would break a line of a log or a
    /// config file.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { found, max } => write!(f, "has {found} bytes, at most {max} are allowed"),
            Self::Slash => f.write_str("contains a slash"),
            Self::Dots => f.write_str("is a directory name"),
            Self::Option => f.write_str("begins with a dash"),
            Self::Space => f.write_str("begins or ends with white space"),
            Self::Control => f.write_str("contains a control character"),
        }
    }
}

impl std::error::Error for NameError {}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > max {
        Err(NameError::TooLong {
            found: text.len(),
            max,
        })
    } else if text.chars().any(breaks_line) {
        Err(NameError::Control)
    } else if text.contains('/') {
        Err(NameError::Slash)
    } else if text == "." || text == ".." {
        Err(NameError::Dots)
    } else if text.starts_with('-') {
        Err(NameError::Option)
    } else if text.trim() != text {
        Err(NameError::Space)
    } else {
        Ok(())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses `text` without trimming it or changing its case. Clones share the text.
            ///
            /// # Errors
            /// [`NameError`], the reason why it is invalid.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $max).map(|()| Self(text.into()))
            }

            /// Returns the name as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A user name: 1 to 63 bytes of UTF-8, safe as a file name, in a line and as an argument.
    Username,
    MAX_NAME_LEN
);
name!(
    /// The name of a user's group: the same rules as [`Username`]. "No group" is `Option::None`.
    GroupName,
    MAX_NAME_LEN
);
name!(
    /// The name of a virtual host: up to 253 bytes, else the same rules as [`Username`]. ocserv
    /// calls its main one `default`.
    VhostName,
    MAX_HOST_LEN
);

/// What ocserv calls its main virtual host.
const DEFAULT_VHOST: &str = "default";

impl VhostName {
    /// Whether it is ocserv's main virtual host.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.as_str() == DEFAULT_VHOST
    }
}

impl Default for VhostName {
    /// Returns ocserv's main virtual host.
    fn default() -> Self {
        Self(DEFAULT_VHOST.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_name_is_kept_unchanged() {
        for good in [
            "alice",
            "sp ace",
            "zoë",
            "x@y.org",
            "a\"q",
            "b\\s",
            "o'k<&>",
            "DOM\\u",
            ".bob",
            "a..b",
            &"u".repeat(63),
        ] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_name_that_could_leave_a_directory_break_a_line_or_look_like_an_option_is_rejected() {
        for (bad, why) in [
            ("", NameError::Empty),
            ("a/b", NameError::Slash),
            ("../evil", NameError::Slash),
            ("..", NameError::Dots),
            (".", NameError::Dots),
            ("-rf", NameError::Option),
            (" a", NameError::Space),
            ("a ", NameError::Space),
            ("a\nb", NameError::Control),
            ("a\r", NameError::Control),
            ("a\0", NameError::Control),
            ("a\u{85}b", NameError::Control),
            ("a\u{2028}b", NameError::Control),
            (&"u".repeat(64), NameError::TooLong { found: 64, max: 63 }),
        ] {
            assert_eq!(Username::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_virtual_host_may_be_as_long_as_a_dns_name() {
        assert!(VhostName::parse(&"h".repeat(253)).is_ok());
        assert_eq!(
            VhostName::parse(&"h".repeat(254)),
            Err(NameError::TooLong { found: 254, max: 253 })
        );
    }
}
