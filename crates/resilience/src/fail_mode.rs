//! Fail modes, which decide logins while the policy source gives no answer.

use std::fmt;
use std::str::FromStr;

use crate::cache::StaleMatch;

/// How a login without a fresh decision is decided in an outage. No mode turns an explicit deny
/// into an allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailMode {
    /// Allows every login that the source's latest answer does not deny.
    Open,
    /// Denies every login.
    Close,
    /// Uses the latest answer while it is young enough; denies without one.
    Stale,
}

impl FailMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Open, Self::Close, Self::Stale];

    /// Returns the name in the configuration and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for FailMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of a text that is not a fail mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a fail mode: expected \"open\", \"close\" or \"stale\" (or \"fail-open\", \"fail-close\", \"fail-stale\")"
)]
pub struct UnknownFailMode;

impl FromStr for FailMode {
    type Err = UnknownFailMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" | "fail-open" => Ok(Self::Open),
            "close" | "fail-close" => Ok(Self::Close),
            "stale" | "fail-stale" => Ok(Self::Stale),
            _ => Err(UnknownFailMode),
        }
    }
}

/// The error of a text that is not a stale match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a stale match: expected \"exact\" or \"user\"")]
pub struct UnknownStaleMatch;

impl FromStr for StaleMatch {
    type Err = UnknownStaleMatch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exact" => Ok(Self::Exact),
            "user" => Ok(Self::User),
            _ => Err(UnknownStaleMatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_two_spellings_and_no_other() {
        for mode in FailMode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(format!("fail-{mode}").parse(), Ok(mode));
        }
        for bad in ["", "Open", "fail_open", "fail-", "closed", " stale"] {
            assert_eq!(bad.parse::<FailMode>(), Err(UnknownFailMode), "{bad:?}");
        }
        assert_eq!("exact".parse(), Ok(StaleMatch::Exact));
        assert_eq!("user".parse(), Ok(StaleMatch::User));
        assert_eq!("any".parse::<StaleMatch>(), Err(UnknownStaleMatch));
    }
}
