//! Names that come from clients and portals.

use std::fmt;
use std::sync::Arc;

use crate::text::breaks_line;

/// The longest name of a user or a group that ocserv takes, in bytes (`MAX_USERNAME_SIZE` 64 with
/// its NUL, ocserv's vpn.h).
const MAX_BYTES: usize = 63;
/// The longest DNS name, in bytes: virtual hosts are named by them.
const MAX_HOST_BYTES: usize = 253;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing in it.
    Empty,
    /// Longer than such a name can be.
    TooLong {
        /// Its bytes.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// A slash: it would name a file in another directory.
    Slash,
    /// `.` or `..`: it would name a directory.
    Dots,
    /// Begins with `-`: a program would read it as an option.
    Option,
    /// Begins or ends with white space, which ocserv's own tools cannot address.
    Space,
    /// A control character or a line separator: it would break a log line or a config line.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { found, most } => write!(f, "has {found} bytes, at most {most} are allowed"),
            Self::Slash => f.write_str("contains a slash"),
            Self::Dots => f.write_str("is a directory name"),
            Self::Option => f.write_str("begins with a dash"),
            Self::Space => f.write_str("begins or ends with white space"),
            Self::Control => f.write_str("contains a control character"),
        }
    }
}

impl std::error::Error for NameError {}

fn check(text: &str, most: usize) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > most {
        Err(NameError::TooLong {
            found: text.len(),
            most,
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
    ($(#[$doc:meta])* $type:ident, $most:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes `text` as it is: no trimming, no change of case. Clones share the text.
            ///
            /// # Errors
            /// [`NameError`] says what stands in the way.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $most).map(|()| Self(text.into()))
            }

            /// The name as it was given.
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
    /// Who logs in: 1 to 63 bytes of UTF-8, safe as a file name, in a line and as an argument.
    Username,
    MAX_BYTES
);
name!(
    /// The group that ocserv put the user in: the same rules as [`Username`]. "No group" is
    /// `Option::None`.
    GroupName,
    MAX_BYTES
);
name!(
    /// The virtual host that the client came to: up to 253 bytes, else the same rules as
    /// [`Username`]. ocserv calls its main one `default`.
    VhostName,
    MAX_HOST_BYTES
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ocserv_takes_and_that_harms_nothing_is_kept_as_it_is() {
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
    fn a_name_that_could_leave_a_directory_break_a_line_or_look_like_an_option_is_refused() {
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
            (&"u".repeat(64), NameError::TooLong { found: 64, most: 63 }),
        ] {
            assert_eq!(Username::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_virtual_host_may_be_as_long_as_a_dns_name() {
        assert!(VhostName::parse(&"h".repeat(253)).is_ok());
        assert_eq!(
            VhostName::parse(&"h".repeat(254)),
            Err(NameError::TooLong {
                found: 254,
                most: 253
            })
        );
    }
}
