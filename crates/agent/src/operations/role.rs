//! The roles of callers.

/// What a caller may do; a higher role includes the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Lists sessions.
    Viewer,
    /// Acts on users, sessions and cached decisions.
    Operator,
    /// Also lets logins be decided more leniently than configured.
    Admin,
}

impl Role {
    /// Returns the name in the configuration and in messages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}
