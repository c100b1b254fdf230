//! One request and one response: a frame each way.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::Connection;

/// Bytes per read; a request is shorter.
const READ_SIZE: usize = 1024;
/// Longest time to write a response, and for the peer to close after it.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why no request was read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The peer closed without sending anything.
    Closed,
    /// The connection was evicted to make room.
    Evicted,
    /// The peer sent no valid request.
    Invalid(String),
}

/// Reads the one request frame; returns its body.
pub(super) async fn read_frame(connection: &mut Connection) -> Result<Vec<u8>, ReadError> {
    let mut decoder = ipc::FrameDecoder::new();
    let mut chunk = Vec::with_capacity(READ_SIZE);
    loop {
        chunk.clear();
        let read = match connection.read(&mut chunk).await {
            Ok(read) => read,
            Err(_) if decoder.is_empty() => return Err(ReadError::Closed),
            Err(error) => return Err(ReadError::Invalid(format!("could not read the request: {error}"))),
        };
        if read == 0 {
            return Err(if decoder.is_empty() {
                ReadError::Closed
            } else {
                ReadError::Invalid("the request is truncated".to_owned())
            });
        }
        match decoder.push(&chunk) {
            Ok(Some(body)) => return Ok(body),
            Ok(None) => {}
            Err(error) => return Err(ReadError::Invalid(error.to_string())),
        }
    }
}

/// Writes the response and shuts down the write side.
pub(super) async fn write(connection: &mut Connection, response: &ipc::Response) -> io::Result<()> {
    let frame = response.to_frame().map_err(io::Error::other)?;
    connection.finish(&frame).await
}

/// Writes the response within [`RESPONSE_TIMEOUT`]; returns whether that succeeded.
pub(super) async fn write_bounded(connection: &mut Connection, response: &ipc::Response) -> bool {
    matches!(
        timeout(RESPONSE_TIMEOUT, write(connection, response)).await,
        Ok(Ok(()))
    )
}

/// Returns whether a peer that has closed read its response: Linux resets a connection whose peer
/// exits with unread bytes. `None` while the connection is open. Reads once, so that a peer that
/// keeps sending delays nothing.
pub(super) fn response_consumed(connection: &Connection) -> Option<bool> {
    match connection.try_read(&mut Vec::with_capacity(READ_SIZE)) {
        Ok(0) => Some(true),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(false),
    }
}
