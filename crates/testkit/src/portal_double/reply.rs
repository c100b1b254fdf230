//! Replies of the double to one call.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ocserv_agent_proto::vpn::v1::{CheckPolicyResponse, ValidateSessionResponse};
use prost::Message;
use tonic::Code;

/// The reply to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<M> {
    /// This message.
    Message(M),
    /// This gRPC status and text.
    Status(Code, String),
    /// This HTTP status, as from a proxy, with a body that is not gRPC.
    Http(u16),
    /// Success without a message.
    NoMessage,
    /// Success with these bytes instead of a message.
    Bytes(Vec<u8>),
    /// A truncated message: it announces more bytes than follow before the stream is reset.
    Torn(Vec<u8>),
    /// No reply.
    Hang,
    /// The connection is closed.
    CloseConnection,
}

/// The reply to an event of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Whether the portal has stored it.
    pub success: bool,
}

impl<M> Reply<M> {
    /// Returns a gRPC status without a text.
    #[must_use]
    pub fn code(code: Code) -> Self {
        Self::Status(code, String::new())
    }

    pub(super) fn map<N>(self, convert: impl FnOnce(M) -> N) -> Reply<N> {
        match self {
            Self::Message(message) => Reply::Message(convert(message)),
            Self::Status(code, text) => Reply::Status(code, text),
            Self::Http(status) => Reply::Http(status),
            Self::NoMessage => Reply::NoMessage,
            Self::Bytes(bytes) => Reply::Bytes(bytes),
            Self::Torn(bytes) => Reply::Torn(bytes),
            Self::Hang => Reply::Hang,
            Self::CloseConnection => Reply::CloseConnection,
        }
    }
}

impl Reply<CheckPolicyResponse> {
    /// Allows the login.
    #[must_use]
    pub fn allow() -> Self {
        Self::Message(CheckPolicyResponse {
            allowed: true,
            ..CheckPolicyResponse::default()
        })
    }

    /// Allows the login, with a TTL in whole seconds; zero means that it must not be cached.
    #[must_use]
    pub fn allow_for(ttl: Duration) -> Self {
        Self::Message(with_ttl(
            CheckPolicyResponse {
                allowed: true,
                ..CheckPolicyResponse::default()
            },
            ttl,
        ))
    }

    /// Denies the login.
    #[must_use]
    pub fn deny(reason: &str) -> Self {
        Self::Message(denial(reason))
    }

    /// Denies the login and ends the connected sessions of the user.
    #[must_use]
    pub fn deny_and_disconnect(reason: &str) -> Self {
        Self::Message(CheckPolicyResponse {
            should_disconnect: true,
            ..denial(reason)
        })
    }

    /// Denies the login, with a TTL as in [`Self::allow_for`].
    #[must_use]
    pub fn deny_for(reason: &str, ttl: Duration) -> Self {
        Self::Message(with_ttl(denial(reason), ttl))
    }

    /// Returns a message with no field set.
    #[must_use]
    pub fn empty() -> Self {
        Self::Message(CheckPolicyResponse::default())
    }

    /// Allows the login and asks for a disconnect at the same time.
    #[must_use]
    pub fn contradictory() -> Self {
        Self::Message(CheckPolicyResponse {
            allowed: true,
            should_disconnect: true,
            ..CheckPolicyResponse::default()
        })
    }
}

fn denial(reason: &str) -> CheckPolicyResponse {
    CheckPolicyResponse {
        deny_reason: reason.to_owned(),
        ..CheckPolicyResponse::default()
    }
}

fn with_ttl(mut response: CheckPolicyResponse, ttl: Duration) -> CheckPolicyResponse {
    response
        .metadata
        .insert("cache_ttl_seconds".to_owned(), ttl.as_secs().to_string());
    response
}

impl Reply<ValidateSessionResponse> {
    /// Confirms the session.
    #[must_use]
    pub fn valid() -> Self {
        Self::Message(ValidateSessionResponse {
            valid: true,
            ..ValidateSessionResponse::default()
        })
    }

    /// Revokes the session.
    #[must_use]
    pub fn force_disconnect(reason: &str) -> Self {
        Self::Message(ValidateSessionResponse {
            valid: false,
            invalid_reason: reason.to_owned(),
            force_disconnect: true,
        })
    }
}

impl Reply<Acknowledgement> {
    /// Acknowledges the event, or says that it was not stored.
    #[must_use]
    pub fn acknowledge(success: bool) -> Self {
        Self::Message(Acknowledgement { success })
    }
}

/// Encodes a message in a gRPC frame: not compressed, length, bytes.
pub(super) fn framed(message: &impl Message) -> Bytes {
    frame_of(&message.encode_to_vec(), 0)
}

/// Encodes a frame that announces `missing` bytes more than it has.
pub(super) fn frame_of(body: &[u8], missing: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(0);
    frame.put_u32(
        u32::try_from(body.len())
            .unwrap_or(u32::MAX)
            .saturating_add(missing),
    );
    frame.put_slice(body);
    frame.freeze()
}
