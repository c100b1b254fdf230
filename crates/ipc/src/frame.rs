//! The frame: a 4-byte big-endian length, then the body.

/// The largest body of a frame, in bytes. A longer one is a protocol error on either side.
pub const MAX_FRAME: usize = 1 << 20;

/// Bytes of the length in front of each body.
const HEADER: usize = 4;

/// A body is given this much room before its bytes are there; the rest grows with what really arrives, so that a header
/// alone cannot make the reader allocate a megabyte.
const FIRST_ROOM: usize = 4096;

/// Why bytes are not one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is zero: there is no empty message.
    #[error("frame of length zero")]
    Empty,
    /// The length is over the limit.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// What the header says, or what was to be sent.
        length: usize,
        /// What the reader accepts.
        limit: usize,
    },
    /// There are bytes after the one frame of this connection.
    #[error("bytes after the end of the frame")]
    TrailingBytes,
}

/// Puts the length in front of `body`.
///
/// # Errors
/// [`FrameError::Empty`] and [`FrameError::TooLong`], as the reader would refuse the frame.
pub fn encode_frame(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    check(body.len(), MAX_FRAME)?;
    let too_long = FrameError::TooLong {
        length: body.len(),
        limit: MAX_FRAME,
    };
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

const fn check(length: usize, limit: usize) -> Result<(), FrameError> {
    if length == 0 {
        return Err(FrameError::Empty);
    }
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    Ok(())
}

/// Collects the one frame of a connection from pieces of any size.
///
/// It holds no more than the bytes that arrived. After an error it stays in error; after the frame, any further byte is
/// [`FrameError::TrailingBytes`].
#[derive(Debug)]
pub struct FrameDecoder {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER], have: usize },
    Body { length: usize, body: Vec<u8> },
    Done,
    Broken(FrameError),
}

impl FrameDecoder {
    /// A decoder for bodies up to [`MAX_FRAME`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(MAX_FRAME)
    }

    /// A decoder for bodies up to `limit` bytes; a limit over [`MAX_FRAME`] means [`MAX_FRAME`].
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        let limit = if limit > MAX_FRAME { MAX_FRAME } else { limit };
        Self {
            limit,
            state: State::Header {
                bytes: [0; HEADER],
                have: 0,
            },
        }
    }

    /// Takes the next bytes of the stream; `Some` is the whole body, given out once.
    ///
    /// # Errors
    /// A bad length as soon as its four bytes are there; bytes after the frame, even when they come in the same piece as
    /// its end: then the frame is not given out.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let result = self.advance(bytes);
        if let Err(error) = result {
            self.state = State::Broken(error);
        }
        result
    }

    /// Whether no byte has arrived yet: tells a peer that said nothing from one that broke off.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }

    fn advance(&mut self, mut bytes: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if let State::Header { bytes: header, have } = &mut self.state {
            let take = bytes.len().min(HEADER - *have);
            let (now, rest) = bytes.split_at(take);
            header[*have..*have + take].copy_from_slice(now);
            *have += take;
            bytes = rest;
            if *have < HEADER {
                return Ok(None);
            }
            // usize::MAX on a machine where a usize is smaller than the header's length: over any limit.
            let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
            check(length, self.limit)?;
            self.state = State::Body {
                length,
                body: Vec::with_capacity(length.min(FIRST_ROOM)),
            };
        }
        match &mut self.state {
            State::Body { length, body } => {
                if bytes.len() > *length - body.len() {
                    return Err(FrameError::TrailingBytes);
                }
                body.extend_from_slice(bytes);
                if body.len() < *length {
                    return Ok(None);
                }
                let body = std::mem::take(body);
                self.state = State::Done;
                Ok(Some(body))
            }
            State::Done if bytes.is_empty() => Ok(None),
            State::Done => Err(FrameError::TrailingBytes),
            State::Broken(error) => Err(*error),
            // Unfinished headers returned above.
            State::Header { .. } => Ok(None),
        }
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}
