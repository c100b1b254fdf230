//! A frame survives any split, and only a whole frame decodes.

use ipc::{FrameDecoder, FrameError, MAX_FRAME, encode_frame};
use proptest::prelude::*;

/// One byte over the limit.
const OVER: u32 = (1 << 20) + 1;

/// Decodes `bytes` in pieces of the given sizes, in turn.
fn decode(bytes: &[u8], sizes: &[usize]) -> Result<Option<Vec<u8>>, FrameError> {
    let mut decoder = FrameDecoder::new();
    let (mut rest, mut sizes, mut frame) = (bytes, sizes.iter().cycle(), None);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&rest.len())));
        rest = after;
        if let Some(body) = decoder.push(piece)? {
            assert!(frame.is_none(), "one frame was returned twice");
            frame = Some(body);
        }
    }
    Ok(frame)
}

proptest! {
    #[test]
    fn any_split_decodes_to_the_same_frame(
        body in prop::collection::vec(any::<u8>(), 1..3000),
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let frame = encode_frame(&body).unwrap();
        prop_assert_eq!(decode(&frame, &sizes), Ok(Some(body)));
    }

    #[test]
    fn a_truncated_frame_is_no_frame(
        body in prop::collection::vec(any::<u8>(), 1..3000),
        cut in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let frame = encode_frame(&body).unwrap();
        prop_assert_eq!(decode(&frame[..cut.index(frame.len())], &sizes), Ok(None));
    }

    #[test]
    fn any_byte_after_the_frame_is_an_error(
        body in prop::collection::vec(any::<u8>(), 1..300),
        more in prop::collection::vec(any::<u8>(), 1..300),
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut stream = encode_frame(&body).unwrap();
        stream.extend(more);
        prop_assert_eq!(decode(&stream, &sizes), Err(FrameError::TrailingBytes));
    }

    #[test]
    fn garbage_decodes_by_its_header_and_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1usize..40, 1..20),
    ) {
        let length = bytes.first_chunk().map(|header| usize::try_from(u32::from_be_bytes(*header)).unwrap());
        let expected = match length {
            None => Ok(None),
            Some(0) => Err(FrameError::Empty),
            Some(length) if length > MAX_FRAME => Err(FrameError::TooLong { length, limit: MAX_FRAME }),
            Some(length) if bytes.len() - 4 < length => Ok(None),
            Some(length) if bytes.len() - 4 > length => Err(FrameError::TrailingBytes),
            Some(_) => Ok(Some(bytes[4..].to_vec())),
        };
        prop_assert_eq!(decode(&bytes, &sizes), expected);
    }
}

#[test]
fn a_bad_length_is_refused_with_its_fourth_byte() {
    assert_eq!(usize::try_from(OVER), Ok(MAX_FRAME + 1));
    for (header, error) in [
        (0, FrameError::Empty),
        (
            OVER,
            FrameError::TooLong {
                length: MAX_FRAME + 1,
                limit: MAX_FRAME,
            },
        ),
        (
            u32::MAX,
            FrameError::TooLong {
                length: usize::try_from(u32::MAX).unwrap(),
                limit: MAX_FRAME,
            },
        ),
    ] {
        let header = header.to_be_bytes();
        let mut decoder = FrameDecoder::new();
        assert_eq!(decoder.push(&header[..3]), Ok(None));
        assert_eq!(decoder.push(&header[3..]), Err(error));
        assert_eq!(decoder.push(b"{}"), Err(error), "the error is permanent");
    }
}

#[test]
fn the_largest_frame_is_accepted_and_one_byte_more_is_not() {
    let body = vec![b' '; MAX_FRAME];
    let frame = encode_frame(&body).unwrap();
    assert_eq!(decode(&frame, &[65_536]), Ok(Some(body)));
    assert!(matches!(
        encode_frame(&[0; MAX_FRAME + 1]),
        Err(FrameError::TooLong { .. })
    ));
    assert_eq!(encode_frame(b""), Err(FrameError::Empty));
}

#[test]
fn a_lower_limit_applies_and_a_higher_one_does_not() {
    let mut small = FrameDecoder::with_limit(2);
    assert_eq!(
        small.push(&encode_frame(b"abc").unwrap()),
        Err(FrameError::TooLong { length: 3, limit: 2 })
    );
    let mut large = FrameDecoder::with_limit(usize::MAX);
    let header = (OVER).to_be_bytes();
    assert!(matches!(
        large.push(&header),
        Err(FrameError::TooLong { limit: MAX_FRAME, .. })
    ));
}

#[test]
fn is_empty_until_the_first_byte() {
    let mut decoder = FrameDecoder::new();
    assert!(decoder.is_empty());
    assert_eq!(decoder.push(b""), Ok(None));
    assert!(decoder.is_empty());
    for piece in [&b"\0"[..], b"\0\0\x01", b"x"] {
        let _ = decoder.push(piece);
        assert!(!decoder.is_empty());
    }
    assert_eq!(decoder.push(b""), Ok(None), "the end of the stream adds nothing");
}
