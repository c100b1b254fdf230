//! Decodes whole replies, header included, without I/O.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::command::Command;
use crate::cookie::Cookie;
use crate::error::DecodeError;
use crate::frame::{MAX_ROWS, decode_reply};
use crate::session::Session;
use crate::status::Status;
use crate::wire;

/// Decodes the reply to `status`.
///
/// # Errors
/// [`DecodeError`] for anything but exactly one reply of this kind.
pub fn decode_status(reply: &[u8]) -> Result<Status, DecodeError> {
    let body = decode_reply(reply, Command::Status.reply_number())?;
    Ok(wire::StatusReply::decode(body)?.into())
}

/// Decodes the reply to `list`, `user` and `id`, in ocserv's order: newest first.
///
/// # Errors
/// [`DecodeError`] for anything but exactly one reply of this kind, for an entry without an ID and
/// for more than [`MAX_ROWS`] entries.
pub fn decode_list(reply: &[u8]) -> Result<Vec<Session>, DecodeError> {
    rows::<wire::UserInfo, _>(decode_reply(reply, Command::List.reply_number())?)
}

/// Decodes the reply to `list cookies`.
///
/// # Errors
/// [`DecodeError`] for anything but exactly one reply of this kind, for an entry without an ID and
/// for more than [`MAX_ROWS`] entries.
pub fn decode_cookies(reply: &[u8]) -> Result<Vec<Cookie>, DecodeError> {
    rows::<wire::CookieInfo, _>(decode_reply(reply, Command::ListCookies.reply_number())?)
}

/// Decodes the reply to a disconnect or terminate request: whether ocserv found what to end.
///
/// # Errors
/// [`DecodeError`] for anything but exactly one reply to `command`, and for a reply without a
/// result.
pub fn decode_bool(reply: &[u8], command: Command) -> Result<bool, DecodeError> {
    let body = decode_reply(reply, command.reply_number())?;
    let reply = wire::BoolReply::decode(body)?;
    reply.status.ok_or(DecodeError::Missing("result"))
}

/// Decodes the entries of a list message (field 1). Each is converted before the next is read, so a
/// list of malformed entries fails at its first one and is never held in full.
fn rows<W, T>(mut body: &[u8]) -> Result<Vec<T>, DecodeError>
where
    W: Message + Default,
    T: TryFrom<W, Error = DecodeError>,
{
    let mut rows = Vec::new();
    while !body.is_empty() {
        let (field, kind) = decode_key(&mut body)?;
        if (field, kind) != (1, WireType::LengthDelimited) {
            skip_field(kind, field, &mut body, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut body)?).unwrap_or(usize::MAX);
        let (row, rest) = body.split_at_checked(length).ok_or(DecodeError::Truncated {
            have: body.len(),
            need: length,
        })?;
        if rows.len() == MAX_ROWS {
            return Err(DecodeError::TooManyRows(MAX_ROWS));
        }
        rows.push(W::decode(row)?.try_into()?);
        body = rest;
    }
    Ok(rows)
}
