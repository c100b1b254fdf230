use super::format::Codec;

/// Reads an entry whose checksum is right; panics when it means something else after it was written
/// and read again.
pub fn stored_record(key: &[u8], body: &[u8]) {
    let codec = Codec::new("fuzz");
    let value = codec.checked(key, body);
    if let Some(record) = codec.decode(key, &value) {
        let (key, value) = codec.encode(&record);
        assert_eq!(codec.decode(&key, &value), Some(record));
    }
    if let Some(revocation) = codec.decode_revocation(key, &value) {
        let (key, value) = codec.encode_revocation(&revocation);
        assert_eq!(codec.decode_revocation(&key, &value), Some(revocation));
    }
}
