//! The bytes of one conversation: a frame each way.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::line::Line;

/// How much is read at once, in bytes: more than a request has, and no more than the allocator has at hand.
const PIECE: usize = 1024;
/// Within what time an answer has to be taken, and then the connection closed, by the helper.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no request.
pub(super) enum Unheard {
    /// The peer went without a word.
    Silent,
    /// The peer said nothing for so long that it had to make room.
    Expelled,
    /// What the peer said is no request.
    Bad(String),
}

/// Reads the one request.
pub(super) async fn read_frame(line: &mut Line) -> Result<Vec<u8>, Unheard> {
    let mut decoder = ipc::FrameDecoder::new();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        let read = match line.read(&mut piece).await {
            Ok(read) => read,
            Err(_) if decoder.is_empty() => return Err(Unheard::Silent),
            Err(error) => return Err(Unheard::Bad(format!("could not read the request: {error}"))),
        };
        if read == 0 {
            return Err(if decoder.is_empty() {
                Unheard::Silent
            } else {
                Unheard::Bad("the request ends in the middle".to_owned())
            });
        }
        match decoder.push(&piece) {
            Ok(Some(body)) => return Ok(body),
            Ok(None) => {}
            Err(error) => return Err(Unheard::Bad(error.to_string())),
        }
    }
}

/// Writes the answer and ends our side.
pub(super) async fn write(line: &mut Line, response: &ipc::Response) -> io::Result<()> {
    let frame = response.to_frame().map_err(io::Error::other)?;
    line.finish(&frame).await
}

/// Writes the answer while it can be taken. Says whether it was written.
pub(super) async fn say(line: &mut Line, response: &ipc::Response) -> bool {
    matches!(timeout(TAKEN_WITHIN, write(line, response)).await, Ok(Ok(())))
}

/// Says whether the helper took its answer, once it has closed its side: Linux reports a reset when a peer goes with bytes
/// that it has not read. `None` while it is still there. Looks once: a peer that keeps talking keeps nobody busy.
pub(super) fn was_taken(line: &Line) -> Option<bool> {
    match line.try_read(&mut Vec::with_capacity(PIECE)) {
        Ok(0) => Some(true),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(false),
    }
}
