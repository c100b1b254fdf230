//! A checksum that detects damage. It is no signature.

/// The checksum of nothing.
pub const CHECKSUM_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Extends the checksum `start` by `bytes`: FNV-1a, 64 bits.
#[must_use]
pub fn checksum(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
