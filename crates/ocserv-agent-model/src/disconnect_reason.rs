//! Why a session was disconnected.

use std::fmt;

/// Why a session was disconnected, in the terms of the portal's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// Unknown: ocserv gives its scripts no reason.
    Unspecified,
    /// The client disconnected.
    UserInitiated,
    /// The portal or an operator disconnected it.
    AdminForced,
    /// It was idle for too long.
    IdleTimeout,
    /// It reached its maximum duration.
    SessionLimit,
    /// The client's certificate was revoked.
    CertificateRevoked,
    /// The policy no longer allows it.
    PolicyViolation,
    /// ocserv stopped.
    ServerShutdown,
    /// The connection was lost.
    ConnectionError,
}

impl DisconnectReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::UserInitiated,
        Self::AdminForced,
        Self::IdleTimeout,
        Self::SessionLimit,
        Self::CertificateRevoked,
        Self::PolicyViolation,
        Self::ServerShutdown,
        Self::ConnectionError,
    ];

    /// Returns the name in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::UserInitiated => "user_initiated",
            Self::AdminForced => "admin_forced",
            Self::IdleTimeout => "idle_timeout",
            Self::SessionLimit => "session_limit",
            Self::CertificateRevoked => "certificate_revoked",
            Self::PolicyViolation => "policy_violation",
            Self::ServerShutdown => "server_shutdown",
            Self::ConnectionError => "connection_error",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
