//! From a whole reply, header included, to what the program works with. No I/O: the way in for benches and fuzzers too.

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
/// Everything but one whole reply of this kind.
pub fn decode_status(reply: &[u8]) -> Result<Status, DecodeError> {
    let body = decode_reply(reply, Command::Status.reply())?;
    Ok(wire::StatusReply::decode(body)?.into())
}

/// Decodes the reply to `list`, `user` and `id`, in ocserv's order: newest first.
///
/// # Errors
/// Everything but one whole reply of this kind, entries without an ID, and more than [`MAX_ROWS`] entries.
pub fn decode_list(reply: &[u8]) -> Result<Vec<Session>, DecodeError> {
    rows::<wire::UserInfo, _>(decode_reply(reply, Command::List.reply())?)
}

/// Decodes the reply to `list cookies`.
///
/// # Errors
/// Everything but one whole reply of this kind, entries without an id, and more than [`MAX_ROWS`] entries.
pub fn decode_cookies(reply: &[u8]) -> Result<Vec<Cookie>, DecodeError> {
    rows::<wire::CookieInfo, _>(decode_reply(reply, Command::ListCookies.reply())?)
}

/// Decodes the reply of an action: whether something was done.
///
/// # Errors
/// Everything but one whole reply to `command`, and a reply that does not say.
pub fn decode_bool(reply: &[u8], command: Command) -> Result<bool, DecodeError> {
    let body = decode_reply(reply, command.reply())?;
    let reply = wire::BoolReply::decode(body)?;
    reply.status.ok_or(DecodeError::Missing("result"))
}

/// The entries of a list message (field 1), each converted as soon as it is decoded, so that a list of junk is refused at
/// its first entry and not held in full.
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
