//! The bytes of one conversation: a frame each way.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How much is read at once, in bytes: more than a request has, and no more than the allocator has at hand.
const PIECE: usize = 1024;
/// Within what time an answer has to be taken, and then the connection closed, by the helper.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

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
pub(super) async fn read_frame(stream: &mut UnixStream) -> Result<Vec<u8>, Unheard> {
    let mut decoder = ipc::FrameDecoder::new();
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        let read = match stream.read_buf(&mut piece).await {
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
pub(super) async fn write(stream: &mut UnixStream, response: &ipc::Response) -> io::Result<()> {
    let frame = response.to_frame().map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    stream.shutdown().await
}

/// Writes the answer and waits until the helper has closed its side. Says whether the helper took it: Linux reports a
/// reset when a peer goes with bytes that it has not read.
pub(super) async fn answer(stream: &mut UnixStream, response: &ipc::Response) -> bool {
    match timeout(TAKEN_WITHIN, write(stream, response)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return false,
    }
    let mut sink = [0; 64];
    let gone = async {
        loop {
            match stream.read(&mut sink).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    // A helper that neither reads nor goes has the answer in its hands.
    timeout(TAKEN_WITHIN, gone).await.unwrap_or(true)
}
