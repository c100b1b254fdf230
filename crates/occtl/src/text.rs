//! ocserv's text fields: bytes in no guaranteed encoding, empty where there is no value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Text that identifies something; `None` unless it is UTF-8, because a repaired name could equal
/// another.
pub(crate) fn exact(bytes: Option<Vec<u8>>) -> Option<String> {
    String::from_utf8(bytes?).ok().filter(|text| !text.is_empty())
}

/// Text for display; what is not UTF-8 becomes U+FFFD.
pub(crate) fn lossy(bytes: Option<Vec<u8>>) -> Option<String> {
    let text = from_utf8_lossy(bytes?);
    (!text.is_empty()).then_some(text)
}

pub(crate) fn lossy_all(values: Vec<Vec<u8>>) -> Vec<String> {
    values.into_iter().map(from_utf8_lossy).collect()
}

fn from_utf8_lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Parses an address; drops the scope and canonicalises IPv4-mapped IPv6, so that one client has
/// one address.
pub(crate) fn address(bytes: Option<&[u8]>) -> Option<IpAddr> {
    let text = str::from_utf8(bytes?).ok()?;
    let address: IpAddr = text.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

pub(crate) fn ipv4(bytes: Option<&[u8]>) -> Option<Ipv4Addr> {
    match address(bytes)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

pub(crate) fn ipv6(bytes: Option<&[u8]>) -> Option<Ipv6Addr> {
    match address(bytes)? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// Seconds since 1970; `None` for 0, which ocserv sends where it has no time, and for what
/// overflows `i64`.
pub(crate) fn epoch(seconds: Option<impl TryInto<i64>>) -> Option<u64> {
    let seconds: i64 = seconds?.try_into().ok()?;
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}
