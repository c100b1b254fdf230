//! What the double says to one call.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ocserv_agent_proto::vpn::v1::{CheckPolicyResponse, ValidateSessionResponse};
use prost::Message;
use tonic::Code;

/// What a call gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<M> {
    /// This message.
    Message(M),
    /// This gRPC status and text.
    Status(Code, String),
    /// This status of HTTP, as from a proxy in between, with a body that is no gRPC.
    Http(u16),
    /// Success, and no message at all.
    NoMessage,
    /// Success, and these bytes where the message should be.
    Bytes(Vec<u8>),
    /// A message that breaks off: it announces more bytes than come, and then the stream is reset.
    Torn(Vec<u8>),
    /// Nothing, ever.
    Hang,
    /// The end of the whole connection.
    CloseConnection,
}

/// What an event gets, whichever of the three it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Whether the portal has it.
    pub success: bool,
}

impl<M> Reply<M> {
    /// A gRPC status without a text.
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
    /// Lets the user in.
    #[must_use]
    pub fn allow() -> Self {
        Self::Message(CheckPolicyResponse {
            allowed: true,
            ..CheckPolicyResponse::default()
        })
    }

    /// Lets the user in, to be remembered this long (whole seconds; zero: not at all).
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

    /// Keeps the user out.
    #[must_use]
    pub fn deny(reason: &str) -> Self {
        Self::Message(denial(reason))
    }

    /// Keeps the user out, to be remembered this long (whole seconds; zero: not at all).
    #[must_use]
    pub fn deny_for(reason: &str, ttl: Duration) -> Self {
        Self::Message(with_ttl(denial(reason), ttl))
    }

    /// A message with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self::Message(CheckPolicyResponse::default())
    }

    /// Lets the user in and asks for a disconnect in one breath.
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
    /// The session may go on.
    #[must_use]
    pub fn valid() -> Self {
        Self::Message(ValidateSessionResponse {
            valid: true,
            ..ValidateSessionResponse::default()
        })
    }

    /// The session must end.
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
    /// The portal has the event, or says that it has not.
    #[must_use]
    pub fn acknowledge(success: bool) -> Self {
        Self::Message(Acknowledgement { success })
    }
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub(super) fn framed(message: &impl Message) -> Bytes {
    frame_of(&message.encode_to_vec(), 0)
}

/// A frame that announces `missing` bytes more than it has.
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
