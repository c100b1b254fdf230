//! The frame, one each way: a command byte, the body's length as a `u32` in host byte order, the body.

use crate::command::Command;
use crate::error::{ControlError, DecodeError};

/// Bytes before the body.
pub const HEADER: usize = 5;

/// The largest body of a request, in bytes: ocserv reads it into a buffer of this size.
pub const MAX_REQUEST: usize = 256;

/// The largest body of a reply, in bytes.
///
/// A session takes about 400 bytes and 20 more for each of its routes: this is room for 10,000 sessions with 300 routes
/// each, and a bound for what a confused server can make us hold.
pub const MAX_REPLY: usize = 64 << 20;

/// The most entries of a list. An entry of a few bytes becomes hundreds when decoded, so bytes alone do not bound memory.
pub const MAX_ROWS: usize = 100_000;

/// A request with header and body in one piece.
///
/// They must go out in one write: ocserv's main process waits for the rest of a frame of which it has seen the header,
/// and serves nobody until then.
///
/// # Errors
/// [`ControlError::Invalid`] if the body is longer than [`MAX_REQUEST`].
pub fn encode_request(command: Command, body: &[u8]) -> Result<Vec<u8>, ControlError> {
    if body.len() > MAX_REQUEST {
        return Err(ControlError::Invalid("request over 256 bytes"));
    }
    Ok(encode(command.number(), body))
}

/// A reply, as ocserv would send it: for programs that play the server.
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

/// The body of a whole reply that must have the number `expected`.
///
/// # Errors
/// Everything but exactly one frame of that number: cut short, too long, trailing bytes, another number.
pub fn decode_reply(reply: &[u8], expected: u8) -> Result<&[u8], DecodeError> {
    // The number first: in a reply of another kind, the rest has no meaning for the caller.
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

/// Where the frame that `bytes` begin with ends, as soon as they hold its header.
///
/// A reader asks after each read whether it has the whole frame; the answer depends on the bytes alone, never on how
/// they were split.
///
/// # Errors
/// [`DecodeError::TooLong`] as soon as the header announces more than [`MAX_REPLY`].
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

/// Fails as soon as the first byte is there and is not `expected`.
pub(crate) fn check_number(reply: &[u8], expected: u8) -> Result<(), DecodeError> {
    match reply.first() {
        Some(&got) if got != expected => Err(DecodeError::WrongCommand { expected, got }),
        _ => Ok(()),
    }
}
