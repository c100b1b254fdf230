//! Frames and messages between `vpn-auth` and the agent.

use ipc::{FrameDecoder, Request, Response, encode_frame};

/// A stream of bytes gives the same frame or error in one piece and in many.
pub fn ipc_frame(data: &[u8]) {
    // The first byte is the size of the pieces.
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let mut decoder = FrameDecoder::new();
    let mut body = None;
    let mut failed = false;
    for piece in stream.chunks(usize::from(size) + 1) {
        match decoder.push(piece) {
            Ok(Some(frame)) => assert!(body.replace(frame).is_none(), "two frames"),
            Ok(None) => {}
            Err(_) => failed = true,
        }
    }
    let whole = FrameDecoder::new().push(stream);
    match &whole {
        Err(_) => assert!(failed, "an error only in one piece"),
        Ok(whole) => assert_eq!((whole, failed), (&body, false)),
    }
    if let Ok(Some(body)) = whole {
        assert_eq!(encode_frame(&body).as_deref(), Ok(stream));
    }
}

/// A message that is accepted means the same after it was written and read again.
pub fn ipc_message(data: &[u8]) {
    if let Ok(request) = Request::from_json(data)
        && let Ok(frame) = request.to_frame()
    {
        assert_eq!(Request::from_json(&frame[4..]).ok(), Some(request));
    }
    if let Ok(response) = Response::from_json(data)
        && let Ok(frame) = response.to_frame()
    {
        assert_eq!(Response::from_json(&frame[4..]).ok(), Some(response));
    }
}
