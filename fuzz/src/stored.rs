//! The records of the decision file.

/// A record that is read back means the same after it was written and read again. The first two
/// bytes are the length of the key; the checksum is made to fit.
pub fn stored_record(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    if let Some((key, body)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) {
        authz::fuzzing::stored_record(key, body);
    }
}
