//! One login that ocserv remembers, in our words.

use std::net::IpAddr;

use crate::error::DecodeError;
use crate::safe_id::SafeId;
use crate::{text, wire};

/// One login that ocserv remembers, with or without a connection. Its cookie lets the client come back without a password.
/// `None` means that ocserv did not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cookie {
    /// Which login it is.
    pub safe_id: Option<SafeId>,
    /// How far the login is.
    pub state: LoginState,
    /// Who it is; `None` also for a name that is not UTF-8, which [`username_bytes`](Self::username_bytes) still tells.
    pub username: Option<String>,
    /// The name as ocserv has it; empty before the client has sent one.
    pub username_bytes: Vec<u8>,
    /// The user's group.
    pub group: Option<String>,
    /// The virtual host, `default` for the one without a name.
    pub vhost: Option<String>,
    /// Where the client last connected from.
    pub client_ip: Option<IpAddr>,
    /// The client's name for itself. The client chooses it freely.
    pub user_agent: Option<String>,
    /// When the login began, in seconds since 1970.
    pub created_at: Option<u64>,
    /// When ocserv forgets it, in seconds since 1970; `None` also while a connection uses it.
    pub expires_at: Option<u64>,
    /// Whether a connection uses it.
    pub in_use: Option<bool>,
    /// Whether a session was opened for it.
    pub session_is_open: Option<bool>,
    /// Whether the client showed a good certificate.
    pub tls_auth_ok: Option<bool>,
}

/// How far a login is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoginState {
    /// ocserv did not say.
    #[default]
    Unreported,
    /// It has not begun.
    PreAuth,
    /// It failed.
    Failed,
    /// It is going on.
    Authenticating,
    /// It succeeded.
    Authenticated,
    /// A number that was not known when this was written.
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
            user_agent: text::shown(row.user_agent),
            created_at: text::epoch(row.created),
            expires_at: text::epoch(row.expires),
            in_use: row.in_use,
            session_is_open: row.session_is_open,
            tls_auth_ok: row.tls_auth_ok,
        })
    }
}
