//! Frames: a number, the body's length as a `u32` in host byte order, the body. One in each
//! direction per connection.

use crate::command::Command;
use crate::error::{ControlError, DecodeError};

/// Length of the header, in bytes.
pub const HEADER: usize = 5;

/// The largest body of a request, in bytes: ocserv reads it into a buffer of this size.
pub const MAX_REQUEST: usize = 256;

/// The largest body of a reply, in bytes.
///
/// A session takes about 400 bytes, and 20 more per route: enough for 10,000 sessions with 300
/// routes each. It bounds the memory that a faulty server can make the client use.
pub const MAX_REPLY: usize = 64 << 20;

/// The largest number of entries in a list. A few bytes decode to hundreds, so [`MAX_REPLY`] alone
/// does not bound memory.
pub const MAX_ROWS: usize = 100_000;

/// Encodes a request, header and body.
///
/// It must be sent in one write: after a header ocserv's main process waits for the body, up to two
/// minutes, and serves nothing else meanwhile.
///
/// # Errors
/// [`ControlError::Invalid`] for a body longer than [`MAX_REQUEST`].
pub fn encode_request(command: Command, body: &[u8]) -> Result<Vec<u8>, ControlError> {
    if body.len() > MAX_REQUEST {
        return Err(ControlError::Invalid("request over 256 bytes"));
    }
    Ok(encode(command.number(), body))
}

/// Encodes a reply as ocserv does, for programs that stand in for the server.
#[must_use]
pub fn encode_reply(number: u8, body: &[u8]) -> Vec<u8> {
    encode(number, body)
}

fn encode(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.push(number);
    frame.extend_from_slice(&length.to_ne_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Returns the body of a reply that must have the number `expected`.
///
/// # Errors
/// [`DecodeError`] for anything but exactly one frame with that number.
pub fn decode_reply(reply: &[u8], expected: u8) -> Result<&[u8], DecodeError> {
    // The number first: the rest of another reply means nothing to the caller.
    check_number(reply, expected)?;
    let end = frame_end(reply)?.ok_or(DecodeError::Truncated {
        have: reply.len(),
        need: HEADER,
    })?;
    if reply.len() > end {
        return Err(DecodeError::TrailingBytes);
    }
    reply.get(HEADER..end).ok_or(DecodeError::Truncated {
        have: reply.len(),
        need: end,
    })
}

/// Returns the length of the first frame of `bytes`, header included; `None` while the header is
/// incomplete.
///
/// # Errors
/// [`DecodeError::TooLong`] when the header announces more than [`MAX_REPLY`].
pub fn frame_end(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MAX_REPLY {
        return Err(DecodeError::TooLong {
            length,
            limit: MAX_REPLY,
        });
    }
    Ok(Some(HEADER + length))
}

/// Fails when the first byte is present and is not `expected`.
pub(crate) fn check_number(reply: &[u8], expected: u8) -> Result<(), DecodeError> {
    match reply.first() {
        Some(&got) if got != expected => Err(DecodeError::WrongCommand { expected, got }),
        _ => Ok(()),
    }
}
