//! Frames: a 4-byte big-endian length, then the body.

/// The largest body of a frame, in bytes. A longer one is a protocol error in either direction.
pub const MAX_FRAME: usize = 1 << 20;

/// Length of the header, in bytes.
const HEADER: usize = 4;

/// The largest allocation made for a header alone, in bytes; the buffer grows with what arrives.
const INITIAL_CAPACITY: usize = 4096;

/// Why bytes are not one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is zero.
    #[error("frame of length zero")]
    Empty,
    /// The length is over the limit.
    #[error("frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Length in the header, or of the body to be sent, in bytes.
        length: usize,
        /// Largest accepted length, in bytes.
        limit: usize,
    },
    /// More bytes follow the one frame of the connection.
    #[error("bytes after the end of the frame")]
    TrailingBytes,
}

/// Encodes `body` as a frame.
///
/// # Errors
/// [`FrameError::Empty`] and [`FrameError::TooLong`].
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

/// Decodes the one frame of a connection from pieces of any size.
///
/// It holds no more than the bytes that arrived. After an error every call fails with the same
/// error; after the frame, any further byte is [`FrameError::TrailingBytes`].
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
    /// Creates a decoder for bodies up to [`MAX_FRAME`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(MAX_FRAME)
    }

    /// Creates a decoder for bodies up to `limit` bytes, at most [`MAX_FRAME`].
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

    /// Takes the next bytes of the stream; returns the whole body once.
    ///
    /// # Errors
    /// [`FrameError`] for a bad length as soon as the header is complete, and for bytes after the
    /// frame: if they arrive together with its end, the body is not returned.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let result = self.advance(bytes);
        if let Err(error) = result {
            self.state = State::Broken(error);
        }
        result
    }

    /// Returns whether no byte has arrived: distinguishes a peer that sent nothing from a truncated
    /// frame.
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
            // Where a usize is smaller than a u32: over any limit.
            let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
            check(length, self.limit)?;
            self.state = State::Body {
                length,
                body: Vec::with_capacity(length.min(INITIAL_CAPACITY)),
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
            // An incomplete header has returned above.
            State::Header { .. } => Ok(None),
        }
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}
