//! A decoded cookie.

use std::net::IpAddr;

use crate::error::DecodeError;
use crate::safe_id::SafeId;
use crate::{text, wire};

/// A cookie: a login that ocserv keeps, with or without a connection. With it the client reconnects
/// without a password.
///
/// `None` means that ocserv did not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cookie {
    /// The login's identity.
    pub safe_id: Option<SafeId>,
    /// State of the login.
    pub state: LoginState,
    /// The username; `None` also for one that is not UTF-8, see
    /// [`username_bytes`](Self::username_bytes).
    pub username: Option<String>,
    /// The username as ocserv has it; empty before the client has sent one.
    pub username_bytes: Vec<u8>,
    /// The user's group.
    pub group: Option<String>,
    /// The virtual host, `default` for the one without a name.
    pub vhost: Option<String>,
    /// The client's address, without a scope; of its last connection.
    pub client_ip: Option<IpAddr>,
    /// The client's user agent. Untrusted: the client sends what it likes.
    pub user_agent: Option<String>,
    /// Start of the login, in seconds since 1970.
    pub created_at: Option<u64>,
    /// Expiry, in seconds since 1970; `None` also while a connection uses the cookie.
    pub expires_at: Option<u64>,
    /// Whether a connection uses the cookie.
    pub in_use: Option<bool>,
    /// Whether a session is open for it.
    pub session_is_open: Option<bool>,
    /// Whether the client authenticated with a certificate.
    pub tls_auth_ok: Option<bool>,
}

/// State of a login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoginState {
    /// ocserv did not report it.
    #[default]
    Unreported,
    /// Not started.
    PreAuth,
    /// Failed.
    Failed,
    /// In progress.
    Authenticating,
    /// Succeeded.
    Authenticated,
    /// A number that this crate does not know.
    Unknown(u32),
}

impl From<Option<u32>> for LoginState {
    fn from(number: Option<u32>) -> Self {
        match number {
            None => Self::Unreported,
            Some(0) => Self::PreAuth,
            Some(1) => Self::Failed,
            Some(2 | 3) => Self::Authenticating,
            Some(4) => Self::Authenticated,
            Some(other) => Self::Unknown(other),
        }
    }
}

impl TryFrom<wire::CookieInfo> for Cookie {
    type Error = DecodeError;

    fn try_from(row: wire::CookieInfo) -> Result<Self, DecodeError> {
        if row.safe_id.is_none() {
            return Err(DecodeError::Missing("session id"));
        }
        Ok(Self {
            safe_id: SafeId::from_wire(row.safe_id.as_deref()),
            state: row.status.into(),
            username: text::exact(row.username.clone()),
            username_bytes: row.username.unwrap_or_default(),
            group: text::exact(row.groupname),
            vhost: text::exact(row.vhost),
            client_ip: text::address(row.remote_ip.as_deref()),
            user_agent: text::lossy(row.user_agent),
            created_at: text::epoch(row.created),
            expires_at: text::epoch(row.expires),
            in_use: row.in_use,
            session_is_open: row.session_is_open,
            tls_auth_ok: row.tls_auth_ok,
        })
    }
}
